#include "cache/formats/gzip.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>

#ifdef CUDADENT_ZLIB
#include <zlib.h>

#include <array>
#include <limits>
#endif

namespace cudadent {

#ifdef CUDADENT_ZLIB

namespace {

class Inflater {
 public:
  explicit Inflater(const std::string& name) : name_(name) {
    constexpr int gzip_header = 16;
    if (inflateInit2(&stream_, gzip_header + MAX_WBITS) != Z_OK) {
      throw Error(ErrorCode::internal, fmt::format("{}: zlib cannot be set up", name));
    }
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  std::string all(std::string_view bytes) {
    if (bytes.size() > std::numeric_limits<unsigned>::max()) damaged("larger than 4 GB");
    // zlib's interface is older than const.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = static_cast<unsigned>(bytes.size());
    std::string result;
    std::array<char, 65536> piece{};
    int status = Z_OK;
    while (status != Z_STREAM_END) {
      stream_.next_out = reinterpret_cast<Bytef*>(piece.data());
      stream_.avail_out = static_cast<unsigned>(piece.size());
      status = inflate(&stream_, Z_NO_FLUSH);
      if (status == Z_BUF_ERROR) damaged("it breaks off");
      if (status != Z_OK && status != Z_STREAM_END) {
        damaged(stream_.msg != nullptr ? stream_.msg : "no gzip data");
      }
      result.append(piece.data(), piece.size() - stream_.avail_out);
      // A gzip file may be several, one after another.
      if (status == Z_STREAM_END && stream_.avail_in > 0) {
        if (inflateReset(&stream_) != Z_OK) damaged("no gzip data");
        status = Z_OK;
      }
    }
    return result;
  }

 private:
  [[noreturn]] void damaged(const char* why) const {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} cannot be decompressed: {}. Get the file again, or decompress it "
                            "with gzip -d to see what is wrong",
                            name_, why));
  }

  const std::string& name_;
  z_stream stream_{};
};

}  // namespace

std::string decompress_gzip(std::string_view bytes, const std::string& name) {
  return Inflater(name).all(bytes);
}

#else

std::string decompress_gzip(std::string_view, const std::string& name) {
  throw Error(
      ErrorCode::unsupported,
      fmt::format("{} is compressed, and cudadent was built without zlib: decompress it with "
                  "gzip -d, or build where <zlib.h> is installed (zlib1g-dev)",
                  name));
}

#endif

}  // namespace cudadent
