// The kernels for any processor.
#include "kernels.h"

namespace {
enum { W = 4, FLOAT_ROWS = 2, INT_ROWS = 2 };
#define ISA_NAME "plain"
#define ISA_H "isa_plain.h"
#include "body.h"
}  // namespace

const Kernels *kernels_plain() { return &table; }
