// Fills the table of kernels for one set of lanes. Included by one source file for each instruction set.
#pragma once

#include "attention.h"
#include "dot.h"
#include "layers.h"
#include "rotation.h"
#include "table.h"
#include "trellis.h"

namespace leanto {

template <class L> constexpr Kernels make_kernels(const char* name) {
    return {
        .name = name,
        .trellis_product = trellis_product<L>,
        .trellis_decode = trellis_decode<L>,
        .int8_product = int8_product<L>,
        .dense_product = dense_product<L>,
        .half_product = half_product<L>,
        .transposed_product = transposed_product<L>,
        .quantize = quantize<L>,
        .rotate = rotate<L>,
        .rotate_transpose = rotate_transpose<L>,
        .rms_norm = rms_norm<L>,
        .rope = rope<L>,
        .gated_silu = gated_silu<L>,
        .gated_gelu = gated_gelu<L>,
        .softcap = softcap<L>,
        .add = add<L>,
        .to_half = to_half<L>,
        .attend = attend<L>,
        .largest = largest<L>,
        .softmax_sums = softmax_sums<L>,
    };
}

}  // namespace leanto
