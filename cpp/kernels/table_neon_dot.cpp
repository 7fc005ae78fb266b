// The kernels compiled for aarch64 with the dot product instructions.
#define LINNET_NEON_DOT
#include "kernels/simd_neon.h"
#include "kernels/table.h"
