// The one place where fmt is compiled. Header-only, each of our sources would compile it again, which takes half of
// the time an average one needs; fmt's own library is not everywhere its headers are, and would have to be shipped.
#include <fmt/format-inl.h>
