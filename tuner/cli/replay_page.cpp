#include "tuner/cli/replay_page.h"

namespace cudadent::cli {

void write_replay_page(const std::vector<SpaceReplay>& replays, const std::filesystem::path& file) {
  static_cast<void>(replays);
  throw Error(ErrorCode::unsupported,
              "this build draws no pages: use --json instead of --plot " + file.string());
}

}  // namespace cudadent::cli
