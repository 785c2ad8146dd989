// Rows times vectors, for int8 (also transposed), float32 and float16 weights. Several rows go together, so that the vector is loaded
// once for all.
#pragma once

#include "half.h"
#include "table.h"

namespace leanto {

// Calls body(column, strip) for every strip of columns; only the last can be narrower than a vector.
template <class L, class Body> void each_strip(size_t columns, Body body) {
    size_t c = 0;
    for (; c + L::kColumns <= columns; c += L::kColumns) body(c, Width<L::kColumns>());
    if constexpr (L::kColumns > kColumnLanes)
        if (c < columns) body(c, Width<kColumnLanes>());
}

constexpr size_t kTokenRun = 64;  // vectors whose excess is found together

// What the bias of L adds to each row's product with x.
template <class L> int32_t excess_of(const int8_t* x, size_t columns) {
    if constexpr (L::kBias == 0) return 0;
    auto sum = L::start(0);
    each_strip<L>(columns, [&](size_t c, auto strip) { sum = L::dot(sum, L::operand(L::load_bytes(x + c, strip)), L::biased(typename L::Bytes{})); });
    return L::sum_ints(sum);
}

// Rows of w times some vectors. `Biased` says that w holds the bias of L already.
template <class L, int Rows, int Tokens, bool Biased>
void int8_block(const int8_t* w, size_t columns, const int8_t* x, const int32_t* excess, int32_t* y, size_t stride) {
    typename L::Ints sums[Tokens][Rows];
    for (int t = 0; t < Tokens; ++t)
        for (auto& sum : sums[t]) sum = L::start(excess[t]);
    each_strip<L>(columns, [&](size_t c, auto strip) {
        typename L::Operand values[Tokens];
        for (int t = 0; t < Tokens; ++t) values[t] = L::operand(L::load_bytes(x + t * columns + c, strip));
        for (int r = 0; r < Rows; ++r) {
            const auto loaded = L::load_bytes(w + r * columns + c, strip), weights = Biased ? loaded : L::biased(loaded);
            for (int t = 0; t < Tokens; ++t) sums[t][r] = L::dot(sums[t][r], values[t], weights);
        }
    });
    for (int t = 0; t < Tokens; ++t) {
        if constexpr (Rows == 8) L::store_sums(y + t * stride, sums[t]);
        else
            for (int r = 0; r < Rows; ++r) y[t * stride + r] = L::sum_ints(sums[t][r]);
    }
}

template <class L, int Rows, bool Biased>
void int8_rows(const int8_t* w, size_t columns, const int8_t* x, const int32_t* excess, size_t tokens, int32_t* y, size_t stride) {
    size_t t = 0;
    for (; t + L::kTokens <= tokens; t += L::kTokens)
        int8_block<L, Rows, L::kTokens, Biased>(w, columns, x + t * columns, excess + t, y + t * stride, stride);
    for (; t < tokens; ++t) int8_block<L, Rows, 1, Biased>(w, columns, x + t * columns, excess + t, y + t * stride, stride);
}

// Calls body(x, excess, count, y) for runs of the vectors and of what comes of them.
template <class L, class Body> void each_run(const int8_t* x, size_t columns, size_t tokens, int32_t* y, size_t stride, Body body) {
    for (size_t t = 0; t < tokens; t += kTokenRun) {
        const size_t count = tokens - t < kTokenRun ? tokens - t : kTokenRun;
        int32_t excess[kTokenRun];
        for (size_t i = 0; i < count; ++i) excess[i] = excess_of<L>(x + (t + i) * columns, columns);
        body(x + t * columns, excess, count, y + t * stride);
    }
}

template <class L>
void int8_product(const int8_t* w, size_t columns, const int8_t* x, size_t tokens, size_t first, size_t last, int32_t* y, size_t stride) {
    each_run<L>(x, columns, tokens, y, stride, [&](const int8_t* run, const int32_t* excess, size_t count, int32_t* out) {
        size_t row = first;
        for (; row + 8 <= last; row += 8) int8_rows<L, 8, false>(w + row * columns, columns, run, excess, count, out + (row - first), stride);
        for (; row < last; ++row) int8_rows<L, 1, false>(w + row * columns, columns, run, excess, count, out + (row - first), stride);
    });
}

template <class L> typename L::Floats load_weights(const float* p) { return L::load(p); }
template <class L> typename L::Floats load_weights(const uint16_t* p) { return L::load_half(p); }
template <class L> typename L::Floats load_weights(const int8_t* p) { return L::load_int8(p); }
template <class L> float one_weight(const float* p) { return *p; }
template <class L> float one_weight(const uint16_t* p) { return half_to_float(*p); }
template <class L> float one_weight(const int8_t* p) { return *p; }

template <class L, int Rows, class Weight>
void float_rows(const Weight* w, size_t row_stride, size_t columns, const float* x, float (&y)[Rows]) {
    typename L::Floats sums[Rows];
    for (auto& sum : sums) sum = L::broadcast(0.0f);
    size_t c = 0;
    for (; c + 8 <= columns; c += 8) {
        const auto values = L::load(x + c);
        for (int r = 0; r < Rows; ++r) sums[r] = L::multiply_add(load_weights<L>(w + r * row_stride + c), values, sums[r]);
    }
    if constexpr (Rows == 4) L::store_sums(y, sums);
    else
        for (int r = 0; r < Rows; ++r) y[r] = L::sum(sums[r]);
    for (; c < columns; ++c)
        for (int r = 0; r < Rows; ++r) y[r] += one_weight<L>(w + r * row_stride + c) * x[c];
}

template <class L, class Weight>
void float_product(const Weight* w, size_t columns, const float* x, size_t tokens, size_t first, size_t last, float* y, size_t stride,
                   bool add) {
    size_t row = first;
    const auto write = [&](size_t token, size_t offset, float value) {
        float& out = y[token * stride + (row - first) + offset];
        out = add ? out + value : value;
    };
    for (; row + 4 <= last; row += 4) {
        for (size_t t = 0; t < tokens; ++t) {
            float sums[4];
            float_rows<L>(w + row * columns, columns, columns, x + t * columns, sums);
            for (size_t r = 0; r < 4; ++r) write(t, r, sums[r]);
        }
    }
    for (; row < last; ++row) {
        for (size_t t = 0; t < tokens; ++t) {
            float sums[1];
            float_rows<L>(w + row * columns, columns, columns, x + t * columns, sums);
            write(t, 0, sums[0]);
        }
    }
}

template <class L>
void dense_product(const float* w, size_t columns, const float* x, size_t tokens, size_t first, size_t last, float* y, size_t stride) {
    float_product<L>(w, columns, x, tokens, first, last, y, stride, false);
}

template <class L>
void half_product(const uint16_t* w, size_t columns, const float* x, size_t tokens, size_t first, size_t last, float* y, size_t stride,
                  bool add) {
    float_product<L>(w, columns, x, tokens, first, last, y, stride, add);
}

// 32 rows at a time, each weight of x broadcast to all of them; those between `last` and the padding are computed and not stored.
template <class L>
void transposed_product(const int8_t* w, size_t count, size_t padded, const float* x, size_t tokens, size_t first, size_t last, float* y,
                        size_t stride) {
    for (size_t t = 0; t < tokens; ++t) {
        for (size_t row = first; row < last; row += 32) {
            typename L::Floats sums[4];
            for (auto& sum : sums) sum = L::broadcast(0.0f);
            for (size_t k = 0; k < count; ++k) {
                const auto factor = L::broadcast(x[t * count + k]);
                const int8_t* at = w + k * padded + row;
                for (int i = 0; i < 4; ++i) sums[i] = L::multiply_add(factor, L::load_int8(at + 8 * i), sums[i]);
            }
            float* out = y + t * stride + (row - first);
            for (size_t i = 0, left = last - row; i < 4 && 8 * i < left; ++i) {
                const size_t width = left - 8 * i < 8 ? left - 8 * i : 8;
                if (width == 8) L::store(out + 8 * i, L::add(L::load(out + 8 * i), sums[i]));
                else L::store_some(out + 8 * i, L::add(L::load_some(out + 8 * i, width, 0.0f), sums[i]), width);
            }
        }
    }
}

}  // namespace leanto
