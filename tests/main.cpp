#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

// Children of a fork start threads, also where their parents have some: that is what is tested. The thread sanitizer
// would end them. Its runtime, a library, looks this function up: it must not be hidden.
#if defined(__SANITIZE_THREAD__)
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif
