// The kernels for any CPU, without intrinsics.
#include "kernels/simd_generic.h"
#include "kernels/table.h"
