"""``benchmarks.listing``: which loop of a listing counts, and what is counted in it."""

from __future__ import annotations

from benchmarks import listing

ARM = """
/tmp/x.o:     file format elf64-littleaarch64

0000000000000000 <void kernels::neon::tile<2, 1, 1, false>(Args const&)>:
   0:	ldr	q1, [x0], #16
   4:	ldr	q2, [x1], #16
   8:	str	q2, [sp, #32]
   c:	fmla	v3.4s, v1.4s, v2.s[0]
  10:	fmla	v4.4s, v1.4s, v2.s[1]
  14:	subs	x2, x2, #1
  18:	b.ne	0 <void kernels::neon::tile<2, 1, 1, false>(Args const&)>
  1c:	fmla	v5.4s, v1.4s, v2.s[1]
  20:	ret
"""

X86 = """
0000000000000010 <void kernels::avx2::tile<1, 1, 1, false>(Args const&)>:
  10:	vmovups (%rax),%ymm0
  14:	vfmadd231ps (%rcx),%ymm0,%ymm1
  18:	jne    18 <void kernels::avx2::tile<1, 1, 1, false>(Args const&)+0x8>
  1a:	vfmadd231ps %ymm2,%ymm0,%ymm3
  1c:	vmovaps %ymm3,-0x20(%rsp)
  1e:	jne    1a <void kernels::avx2::tile<1, 1, 1, false>(Args const&)+0xa>
"""


def test_the_loop_around_most_multiply_adds_is_found() -> None:
    ((name, code),) = listing.functions(ARM).items()
    assert "tile<2, 1, 1" in name and len(code) == 9
    loop = listing.inner_loop(code)
    assert [x.name for x in loop] == ["ldr", "ldr", "str", "fmla", "fmla", "subs", "b.ne"]
    assert sum(x.lanes for x in loop) == 8 and sum(x.spills for x in loop) == 1
    assert sum(x.loads for x in loop) == 2


def test_x86_registers_tell_the_lanes() -> None:
    (code,) = listing.functions(X86).values()
    loop = listing.inner_loop(code)
    assert [x.name for x in loop] == ["vfmadd231ps", "vmovaps", "jne"]
    assert [x.lanes for x in loop] == [8, 0, 0] and [x.spills for x in loop] == [False, True, False]
    assert [x.loads for x in code[:2]] == [True, True]
