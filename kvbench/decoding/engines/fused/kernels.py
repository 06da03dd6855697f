"""Triton kernels of one decode step: products with a few rows, and attention of one query over a static cache.

A step for few sequences reads every weight once and computes next to nothing, so each kernel is written to keep reads
in flight. What stands between two products (a norm, an activation, a residual) is done in the product's own kernel:
the layer is five kernels, and none but the weights and the cache goes through memory at any size.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def product_kernel(
    x_pointer,  # (rows, K)
    weight_pointer,  # (N, K)
    second_pointer,  # (N, K): of the gate's partner, or of keys
    third_pointer,  # of values
    third_x_pointer,  # (rows, K): what the third weight is multiplied by, without a norm; None: by x as well
    norm_pointer,  # (K,)
    out_pointer,  # (rows, N) or, of three weights, (rows, N + 2 · narrow)
    rows,
    wide,  # N
    narrow,  # rows of the second and third weight
    eps,
    K: tl.constexpr,
    ROWS: tl.constexpr,  # 1, or rows up to a power of two of at least 16: a matrix unit's columns
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NORM: tl.constexpr,  # 0: none; 1: times the weight; 2: times 1 + the weight
    GATE: tl.constexpr,  # 0: none; 1: SiLU; 2: GELU by tanh
    THREE: tl.constexpr,
    ADDS: tl.constexpr,  # to what is in `out` already
    DEPENDENT: tl.constexpr,
):
    """x · weightᵀ, with RMS norm (arXiv:1910.07467) before it or a gate (arXiv:2002.05202) or a residual behind it.

    One row is multiplied element by element, more rows by the matrix unit; either way a weight is read once.
    """
    block = tl.program_id(0) * BLOCK_N
    base = weight_pointer
    inputs = x_pointer
    first = block
    if THREE:
        if block >= wide + narrow:
            base = third_pointer
            first = block - wide - narrow
            if third_x_pointer is not None:
                inputs = third_x_pointer
        elif block >= wide:
            base = second_pointer
            first = block - wide
        limit = wide + 2 * narrow
    else:
        limit = wide
    n = tl.arange(0, BLOCK_N)
    real_n = block + n < limit
    row = tl.arange(0, ROWS)
    real_row = row < rows
    columns = tl.arange(0, BLOCK_K)
    offsets = (first + n).to(tl.int64)[:, None] * K + columns[None, :]
    element = out_pointer.dtype.element_ty

    if ROWS == 1:
        # Weights do not depend on the kernel before this one: their reads may begin while it ends.
        weight = tl.load(base + offsets, mask=real_n[:, None] & (columns < K)[None, :], other=0.0)
        if GATE != 0:
            second = tl.load(second_pointer + offsets, mask=real_n[:, None] & (columns < K)[None, :], other=0.0)
    if DEPENDENT:
        gdc_wait()
    if ROWS == 1:
        sums = tl.zeros([BLOCK_N, BLOCK_K], dtype=tl.float32)
        gates = tl.zeros([BLOCK_N, BLOCK_K] if GATE != 0 else [1, 1], dtype=tl.float32)
    else:
        sums = tl.zeros([BLOCK_N, ROWS], dtype=tl.float32)
        gates = tl.zeros([BLOCK_N, ROWS] if GATE != 0 else [1, 1], dtype=tl.float32)
    squares = tl.zeros([ROWS, BLOCK_K], dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + columns
        x = tl.load(inputs + row[:, None] * K + k[None, :], mask=real_row[:, None] & (k < K)[None, :], other=0.0)
        if NORM != 0:
            x = x.to(tl.float32)
            squares += x * x
            scale = tl.load(norm_pointer + k, mask=k < K, other=0.0).to(tl.float32)
            if third_x_pointer is not None:
                scale = tl.where(block < wide + narrow, scale, 1.0)
            x *= (scale + (NORM - 1))[None, :]
        if ROWS == 1:
            sums += weight.to(tl.float32) * x.to(tl.float32)
            if GATE != 0:
                gates += second.to(tl.float32) * x.to(tl.float32)
            if start + BLOCK_K < K:
                real = real_n[:, None] & (k + BLOCK_K < K)[None, :]
                weight = tl.load(base + offsets + start + BLOCK_K, mask=real, other=0.0)
                if GATE != 0:
                    second = tl.load(second_pointer + offsets + start + BLOCK_K, mask=real, other=0.0)
        else:
            real = real_n[:, None] & (k < K)[None, :]
            turned = tl.trans(x.to(element))
            sums += tl.dot(tl.load(base + offsets + start, mask=real, other=0.0), turned, input_precision="ieee")
            if GATE != 0:
                partner = tl.load(second_pointer + offsets + start, mask=real, other=0.0)
                gates += tl.dot(partner, turned, input_precision="ieee")
    if DEPENDENT:
        gdc_launch_dependents()
    out = tl.sum(sums, axis=1)[:, None] if ROWS == 1 else sums
    if NORM != 0:
        inverse = tl.rsqrt(tl.sum(squares, axis=1) / K + eps)[None, :]
        if third_x_pointer is not None:
            inverse = tl.where(block < wide + narrow, inverse, 1.0)
        out *= inverse
    if GATE != 0:
        up = tl.sum(gates, axis=1)[:, None] if ROWS == 1 else gates
        if NORM != 0:
            up *= inverse
        if GATE == 1:
            out = out * tl.sigmoid(out)
        else:
            inner = 0.7978845608028654 * (out + 0.044715 * out * out * out)
            out = out * tl.sigmoid(2.0 * inner)  # 0.5 · (1 + tanh(inner)), since tanh(y) = 2 · sigmoid(2y) - 1
        out *= up
    place = out_pointer + row[None, :].to(tl.int64) * limit + block + n[:, None]
    real_out = real_row[None, :] & real_n[:, None]
    if ADDS:
        out += tl.load(place, mask=real_out, other=0.0).to(tl.float32)
    tl.store(place, out.to(element), mask=real_out)


@triton.jit
def attention_kernel(
    qkv_pointer,  # (rows, (heads + 2 · kv_heads) · D): queries, keys, values
    cosine_pointer,  # (positions, D)
    sine_pointer,
    position_pointer,  # (rows,)
    length_pointer,  # tokens in the cache before this one
    start_pointer,  # (rows,): the first column that a row's token sees
    keys_pointer,  # (rows, kv_heads, length, D)
    values_pointer,
    q_norm_pointer,  # (D,)
    k_norm_pointer,
    partial_pointer,  # (rows · kv_heads, SPLITS, GROUP, D) in float32
    summary_pointer,  # (rows · kv_heads, SPLITS, 2, GROUP): largest score, sum of weights
    ticket_pointer,  # (rows · kv_heads,) zeros
    out_pointer,  # (rows, heads · D)
    scaling,
    eps,
    longest,  # length of the cache
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,  # query heads of one key-value head
    GROUP_ROWS: tl.constexpr,  # up to a power of two of at least 16: a matrix unit's rows
    D: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    QK_NORM: tl.constexpr,
    PAIRED: tl.constexpr,  # each key lies behind its own queries, not behind all of them
    PADDED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Rotary embedding, the new token's key and value into the cache, and attention over all that it holds.

    Each program attends to a part of the cache; the last one to end puts the parts together (arXiv:2311.01282).
    """
    HALF: tl.constexpr = D // 2
    pair, split = tl.program_id(0), tl.program_id(1)
    row, kv_head = pair // KV_HEADS, pair % KV_HEADS
    g = tl.arange(0, GROUP_ROWS)
    d = tl.arange(0, D)
    real_g = (g < GROUP)[:, None]
    partner = tl.where(d < HALF, d + HALF, d - HALF)
    sign = tl.where(d < HALF, -1.0, 1.0)
    element = out_pointer.dtype.element_ty
    if DEPENDENT:
        gdc_wait()
    length = tl.load(length_pointer)
    position = tl.load(position_pointer + row)
    cosine = tl.load(cosine_pointer + position * D + d).to(tl.float32)
    sine = tl.load(sine_pointer + position * D + d).to(tl.float32) * sign
    qkv = qkv_pointer + row * (KV_HEADS * (GROUP + 2) * D)
    if PAIRED:
        first_query, its_key = kv_head * (GROUP + 1), kv_head * (GROUP + 1) + GROUP
    else:
        first_query, its_key = kv_head * GROUP, KV_HEADS * GROUP + kv_head
    queries = qkv + (first_query + g)[:, None] * D
    q = tl.load(queries + d[None, :], mask=real_g, other=0.0).to(tl.float32)
    q_partner = tl.load(queries + partner[None, :], mask=real_g, other=0.0).to(tl.float32)
    if QK_NORM:
        inverse = tl.rsqrt(tl.sum(q * q, axis=1) / D + eps)[:, None]
        q = q * inverse * tl.load(q_norm_pointer + d).to(tl.float32)[None, :]
        q_partner = q_partner * inverse * tl.load(q_norm_pointer + partner).to(tl.float32)[None, :]
    q = (q * cosine[None, :] + q_partner * sine[None, :]).to(element)

    cache = (row * KV_HEADS + kv_head).to(tl.int64) * longest * D
    part = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK_T) * BLOCK_T
    begin = split * part
    end = tl.minimum(begin + part, length)
    seen_from = tl.load(start_pointer + row) if PADDED else 0
    largest = tl.full([GROUP_ROWS], -1.0e30, dtype=tl.float32)
    total = tl.zeros([GROUP_ROWS], dtype=tl.float32)
    mixed = tl.zeros([GROUP_ROWS, D], dtype=tl.float32)
    for first in range(begin, end, BLOCK_T):
        t = first + tl.arange(0, BLOCK_T)
        seen = (t < end) & (t >= seen_from)
        places = cache + t[:, None] * D + d[None, :]
        k = tl.load(keys_pointer + places, mask=(t < end)[:, None], other=0.0)
        v = tl.load(values_pointer + places, mask=(t < end)[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scaling
        scores = tl.where(seen[None, :], scores, -1.0e30)
        new_largest = tl.maximum(largest, tl.max(scores, axis=1))
        weights = tl.where(seen[None, :], tl.exp(scores - new_largest[:, None]), 0.0)
        shrink = tl.exp(largest - new_largest)
        total = total * shrink + tl.sum(weights, axis=1)
        mixed = mixed * shrink[:, None] + tl.dot(weights.to(element), v, input_precision="ieee")
        largest = new_largest
    if split == 0:
        new_key = qkv + its_key * D
        k_new = tl.load(new_key + d).to(tl.float32)
        k_partner = tl.load(new_key + partner).to(tl.float32)
        if QK_NORM:
            k_inverse = tl.rsqrt(tl.sum(k_new * k_new, axis=0) / D + eps)
            k_new = k_new * k_inverse * tl.load(k_norm_pointer + d).to(tl.float32)
            k_partner = k_partner * k_inverse * tl.load(k_norm_pointer + partner).to(tl.float32)
        k_new = (k_new * cosine + k_partner * sine).to(element)
        v_new = tl.load(qkv + (KV_HEADS * (GROUP + 1) + kv_head) * D + d)
        tl.store(keys_pointer + cache + length * D + d, k_new)
        tl.store(values_pointer + cache + length * D + d, v_new)
        score = tl.sum(q.to(tl.float32) * k_new.to(tl.float32)[None, :], axis=1) * scaling
        new_largest = tl.maximum(largest, score)
        weight = tl.exp(score - new_largest)
        shrink = tl.exp(largest - new_largest)
        total = total * shrink + weight
        mixed = mixed * shrink[:, None] + weight[:, None] * v_new.to(tl.float32)[None, :]
        largest = new_largest

    heads = out_pointer + row * (KV_HEADS * GROUP * D) + (kv_head * GROUP + g)[:, None] * D + d[None, :]
    if SPLITS == 1:
        tl.store(heads, (mixed / total[:, None]).to(element), mask=real_g)
    else:
        here = pair * SPLITS + split
        tl.store(partial_pointer + here * GROUP * D + g[:, None] * D + d[None, :], mixed, mask=real_g)
        tl.store(summary_pointer + here * 2 * GROUP + g, largest, mask=g < GROUP)
        tl.store(summary_pointer + here * 2 * GROUP + GROUP + g, total, mask=g < GROUP)
        tl.debug_barrier()  # the whole part is written before it is announced
        ticket = tl.atomic_add(ticket_pointer + pair, 1, sem="acq_rel")
        if ticket == SPLITS - 1:
            s = tl.arange(0, SPLITS)
            summaries = summary_pointer + ((pair * SPLITS + s) * 2 * GROUP)[:, None] + g[None, :]
            peaks = tl.load(summaries, mask=(g < GROUP)[None, :], other=0.0, volatile=True)
            sums = tl.load(summaries + GROUP, mask=(g < GROUP)[None, :], other=1.0, volatile=True)
            peak = tl.max(peaks, axis=0)
            whole = tl.sum(tl.exp(peaks - peak[None, :]) * sums, axis=0)
            joined = tl.zeros([GROUP_ROWS, D], dtype=tl.float32)
            for other in tl.static_range(SPLITS):
                there = pair * SPLITS + other
                its_peak = tl.load(summary_pointer + there * 2 * GROUP + g, mask=g < GROUP, other=0.0, volatile=True)
                part_of_it = tl.load(
                    partial_pointer + there * GROUP * D + g[:, None] * D + d[None, :],
                    mask=real_g,
                    other=0.0,
                    volatile=True,
                )
                joined += tl.exp(its_peak - peak)[:, None] * part_of_it
            tl.store(heads, (joined / whole[:, None]).to(element), mask=real_g)
            tl.store(ticket_pointer + pair, 0)
    if DEPENDENT:
        gdc_launch_dependents()


@triton.jit
def document_kernel(
    ids_pointer,  # (rows,)
    length_pointer,  # tokens in the cache before these: the column of each
    first_pointer,  # (rows,): the first column of the document that a row is in
    start_pointer,  # (rows,): columns of padding, and then the first column that a row's token sees
    end,  # the id that ends a document
    PADDED: tl.constexpr,
):
    """Where each row's token may begin to see, and what its successor's document begins with."""
    row = tl.program_id(0)
    first = tl.load(first_pointer + row)
    padding = tl.load(start_pointer + row) if PADDED else 0
    tl.store(start_pointer + row, tl.maximum(first, padding))
    behind = tl.load(length_pointer) + 1
    tl.store(first_pointer + row, tl.where(tl.load(ids_pointer + row) == end, behind, first))
