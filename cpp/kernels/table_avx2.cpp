// The kernels compiled for AVX2 and FMA.
#include "kernels/simd_avx2.h"
#include "kernels/table.h"
