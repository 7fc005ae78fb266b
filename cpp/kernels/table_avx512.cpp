// The kernels compiled for AVX-512 (F, BW, DQ, VL, VNNI).
#include "kernels/simd_avx512.h"
#include "kernels/table.h"
