// The kernels compiled for any aarch64.
#include "kernels/simd_neon.h"
#include "kernels/table.h"
