"""Triton kernels of Yuan's localized filter (arXiv:2311.15786) in a decode step, up to its second convolution.

The filter of the token at t sees two windows of normed inputs: x(t-2) and x(t-1), of which the first convolution makes
what it gave a step ago, and x(t-1) and x(t). The cache holds the two older ones, (rows, hidden, 2). Both kernels leave

- `ahead`, what the cache shall hold for the next token: it cannot be written in place, since other programs read it;
- `x`, the normed input x(t), which becomes the values;
- `out`, x(t) and the second convolution's bias, to which that convolution's product is added.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def _pairs(state_pointer, start, H: tl.constexpr, BLOCK: tl.constexpr):
    """Two inputs of BLOCK channels from `start` on, read as they lie: else each element would be a read of its own."""
    both = 2 * start + tl.arange(0, 2 * BLOCK)
    return tl.split(tl.reshape(tl.load(state_pointer + both, mask=both < 2 * H, other=0.0), [BLOCK, 2]))


@triton.jit
def first_convolution_kernel(
    hidden_pointer,  # (H,)
    norm_pointer,  # (H,)
    state_pointer,  # (H, 2)
    weight_pointer,  # (H / 2, 2 · H): for the older input of a window, and behind it for the newer
    bias_pointer,  # (H / 2,)
    second_bias_pointer,  # (H,)
    inner_pointer,  # (2, H / 2): of the older window, of the newer
    ahead_pointer,  # (H, 2)
    x_pointer,  # (H,)
    out_pointer,  # (H,)
    eps,
    H: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """RMS norm and the first convolution over both windows of one row: a weight is read once and used for both.

    x(t) has its own sum, which is divided by the root of the mean square when that is known.
    """
    program = tl.program_id(0)
    n = program * BLOCK_N + tl.arange(0, BLOCK_N)
    real_n = n < H // 2
    columns = tl.arange(0, BLOCK_K)
    offsets = n.to(tl.int64)[:, None] * (2 * H) + columns[None, :]
    element = out_pointer.dtype.element_ty

    # Weights do not depend on the kernel before this one: their reads may begin while it ends.
    real = real_n[:, None] & (columns < H)[None, :]
    older = tl.load(weight_pointer + offsets, mask=real, other=0.0)
    newer = tl.load(weight_pointer + offsets + H, mask=real, other=0.0)
    bias = tl.load(bias_pointer + n, mask=real_n, other=0.0).to(tl.float32)
    m = program * (2 * BLOCK_N) + tl.arange(0, 2 * BLOCK_N)  # this program's share of the inputs
    real_m = m < H
    my_bias = tl.load(second_bias_pointer + m, mask=real_m, other=0.0).to(tl.float32)
    if DEPENDENT:
        gdc_wait()
    before = tl.zeros([BLOCK_N, BLOCK_K], dtype=tl.float32)
    now = tl.zeros([BLOCK_N, BLOCK_K], dtype=tl.float32)
    of_x = tl.zeros([BLOCK_N, BLOCK_K], dtype=tl.float32)
    squares = tl.zeros([BLOCK_K], dtype=tl.float32)
    for start in range(0, H, BLOCK_K):
        k = start + columns
        second_last, last = _pairs(state_pointer, start, H, BLOCK_K)
        second_last = second_last.to(tl.float32)
        last = last.to(tl.float32)
        x = tl.load(hidden_pointer + k, mask=k < H, other=0.0).to(tl.float32)
        squares += x * x
        x *= tl.load(norm_pointer + k, mask=k < H, other=0.0).to(tl.float32)
        wide_older = older.to(tl.float32)
        wide_newer = newer.to(tl.float32)
        before += wide_older * second_last[None, :] + wide_newer * last[None, :]
        now += wide_older * last[None, :]
        of_x += wide_newer * x[None, :]
        if start + BLOCK_K < H:
            real = real_n[:, None] & (k + BLOCK_K < H)[None, :]
            older = tl.load(weight_pointer + offsets + start + BLOCK_K, mask=real, other=0.0)
            newer = tl.load(weight_pointer + offsets + H + start + BLOCK_K, mask=real, other=0.0)
    if DEPENDENT:
        gdc_launch_dependents()
    inverse = tl.rsqrt(tl.sum(squares, axis=0) / H + eps)
    inner_before = tl.sum(before, axis=1) + bias
    inner_now = tl.sum(now, axis=1) + tl.sum(of_x, axis=1) * inverse + bias
    tl.store(inner_pointer + n, inner_before.to(element), mask=real_n)
    tl.store(inner_pointer + H // 2 + n, inner_now.to(element), mask=real_n)
    my_x = tl.load(hidden_pointer + m, mask=real_m, other=0.0).to(tl.float32)
    my_x = (my_x * tl.load(norm_pointer + m, mask=real_m, other=0.0).to(tl.float32) * inverse).to(element)
    my_last = tl.load(state_pointer + 2 * m + 1, mask=real_m, other=0.0)
    tl.store(ahead_pointer + 2 * m, my_last, mask=real_m)
    tl.store(ahead_pointer + 2 * m + 1, my_x, mask=real_m)
    tl.store(x_pointer + m, my_x, mask=real_m)
    tl.store(out_pointer + m, (my_x.to(tl.float32) + my_bias).to(element), mask=real_m)


@triton.jit
def window_kernel(
    hidden_pointer,  # (rows, H)
    norm_pointer,  # (H,)
    state_pointer,  # (rows, H, 2)
    bias_pointer,  # (H / 2,): the first convolution's
    second_bias_pointer,  # (H,)
    windows_pointer,  # (rows, 2, 2 · H): x(t-2), x(t-1); x(t-1), x(t)
    inner_pointer,  # (rows, 2, H / 2): the first convolution's bias, to which its product is added
    ahead_pointer,  # (rows, H, 2)
    x_pointer,  # (rows, H)
    out_pointer,  # (rows, H)
    eps,
    H: tl.constexpr,
    BLOCK: tl.constexpr,  # H up to a power of two
    DEPENDENT: tl.constexpr,
):
    """RMS norm of each row, and the windows as rows of a product: a matrix unit takes the first convolution."""
    row = tl.program_id(0)
    k = tl.arange(0, BLOCK)
    real = k < H
    element = out_pointer.dtype.element_ty
    scale = tl.load(norm_pointer + k, mask=real, other=0.0).to(tl.float32)
    bias = tl.load(bias_pointer + k % (H // 2), mask=real, other=0.0)
    second_bias = tl.load(second_bias_pointer + k, mask=real, other=0.0).to(tl.float32)
    if DEPENDENT:
        gdc_wait()
    hidden = tl.load(hidden_pointer + row * H + k, mask=real, other=0.0).to(tl.float32)
    x = (hidden * scale * tl.rsqrt(tl.sum(hidden * hidden, axis=0) / H + eps)).to(element)
    second_last, last = _pairs(state_pointer + row * (2 * H), 0, H, BLOCK)
    windows = windows_pointer + row * (4 * H) + k
    tl.store(windows, second_last, mask=real)
    tl.store(windows + H, last, mask=real)
    tl.store(windows + 2 * H, last, mask=real)
    tl.store(windows + 3 * H, x, mask=real)
    tl.store(inner_pointer + row * H + k, bias, mask=real)
    both = tl.arange(0, 2 * BLOCK)
    tl.store(ahead_pointer + row * (2 * H) + both, tl.interleave(last, x), mask=both < 2 * H)
    tl.store(x_pointer + row * H + k, x, mask=real)
    tl.store(out_pointer + row * H + k, (x.to(tl.float32) + second_bias).to(element), mask=real)
    if DEPENDENT:
        gdc_launch_dependents()
