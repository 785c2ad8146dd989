// Products with trellis-coded matrices. A column's bits are a cyclic string in each block of rows; row t reads the 12 bits that start at
// bits · t and adds two table entries. Lanes are neighbouring columns, so eight rows need a few byte rows and no gather.
#pragma once

#include <utility>

#include "dot.h"
#include "table.h"

namespace leanto {

// The byte rows that hold the windows of one group of eight rows, wrapped around in their block.
template <int Bits> struct GroupStream {
    static constexpr size_t kSpan = (7 * Bits + 12 + 7) / 8;
    const uint8_t* at[kSpan];

    GroupStream(const TrellisCodes& w, size_t row) {
        const size_t block = row / kBlockRows * kBlockRows;
        const size_t rows = w.rows - block < kBlockRows ? w.rows - block : kBlockRows;
        const size_t length = rows * Bits / 8;
        const uint8_t* start = w.codes + block * Bits / 8 * w.columns;
        for (size_t i = 0, byte = (row - block) * Bits / 8; i < kSpan; ++i, ++byte) {
            while (byte >= length) byte -= length;  // cyclic; a short block may wrap more than once
            at[i] = start + byte * w.columns;
        }
    }
};

template <class L, int Bit, size_t Span> typename L::Bytes nibble_at(const typename L::Bytes (&stream)[Span]) {
    if constexpr (Bit % 8 <= 4) {
        return L::template nibble<Bit % 8>(stream[Bit / 8]);
    } else {
        return L::template nibble<Bit % 8>(stream[Bit / 8], stream[Bit / 8 + 1]);
    }
}

// The window that starts at Bit, looked up for 32 columns: A[w0 ^ w8] + B[w4 ^ (w8 << 1)], the shift kept to 4 bits by the look-up.
template <class L, int Bit, size_t Span>
typename L::Bytes window_values(const typename L::Bytes (&stream)[Span], typename L::Bytes a, typename L::Bytes b) {
    const auto w0 = nibble_at<L, Bit>(stream), w4 = nibble_at<L, Bit + 4>(stream), w8 = nibble_at<L, Bit + 8>(stream);
    return L::add_bytes(L::look_up(a, L::exclusive_or(w0, w8)), L::look_up(b, L::exclusive_or(w4, L::add_bytes(w8, w8))));
}

// Calls each(row, values) for the eight rows of a group in the 32 columns that start at `column`.
template <class L, int Bits, class Each>
void each_row(const GroupStream<Bits>& stream, size_t column, typename L::Bytes a, typename L::Bytes b, Each each) {
    typename L::Bytes bytes[GroupStream<Bits>::kSpan];
    for (size_t i = 0; i < GroupStream<Bits>::kSpan; ++i) bytes[i] = L::load_bytes(stream.at[i] + column);
    [&]<int... Row>(std::integer_sequence<int, Row...>) {
        (each(Row, window_values<L, Bits * Row>(bytes, a, b)), ...);
    }(std::make_integer_sequence<int, kRowGroup>{});
}

template <class L, int Bits> void decode_group(const TrellisCodes& w, size_t row, int8_t* out) {
    const GroupStream<Bits> stream(w, row);
    const auto a = L::broadcast16(w.tables), b = L::broadcast16(w.tables + 16);
    for (size_t c = 0; c < w.columns; c += kColumnLanes)
        each_row<L, Bits>(stream, c, a, b, [&](int r, typename L::Bytes values) { L::store_bytes(out + r * w.columns + c, values); });
}

template <class L, int Bits> void multiply_group(const TrellisCodes& w, size_t row, const int8_t* x, int32_t* y) {
    const GroupStream<Bits> stream(w, row);
    const auto a = L::broadcast16(w.tables), b = L::broadcast16(w.tables + 16);
    typename L::Ints sums[kRowGroup];
    for (auto& sum : sums) sum = L::zero_ints();
    for (size_t c = 0; c < w.columns; c += kColumnLanes) {
        const auto values = L::load_bytes(x + c), magnitude = L::magnitude(values);
        each_row<L, Bits>(stream, c, a, b,
                          [&](int r, typename L::Bytes weights) { sums[r] = L::dot(sums[r], magnitude, values, weights); });
    }
    L::store_sums(y, sums);
}

template <class L, int Bits>
void trellis_product(const TrellisCodes& w, const int8_t* x, size_t tokens, size_t first, size_t last, int8_t* tile, int32_t* y,
                     size_t stride) {
    for (size_t row = first; row < last; row += kRowGroup) {
        if (tokens == 1) {
            multiply_group<L, Bits>(w, row, x, y + (row - first));
        } else {  // decode once for all tokens
            decode_group<L, Bits>(w, row, tile);
            int8_product<L>(tile, w.columns, x, tokens, 0, kRowGroup, y + (row - first), stride);
        }
    }
}

template <class L>
void trellis_product(const TrellisCodes& w, const int8_t* x, size_t tokens, size_t first, size_t last, int8_t* tile, int32_t* y,
                     size_t stride) {
    switch (w.bits) {
        case 1: return trellis_product<L, 1>(w, x, tokens, first, last, tile, y, stride);
        case 2: return trellis_product<L, 2>(w, x, tokens, first, last, tile, y, stride);
        case 3: return trellis_product<L, 3>(w, x, tokens, first, last, tile, y, stride);
        default: return trellis_product<L, 4>(w, x, tokens, first, last, tile, y, stride);
    }
}

template <class L> void trellis_decode(const TrellisCodes& w, size_t first, size_t last, int8_t* out) {
    for (size_t row = first; row < last; row += kRowGroup, out += kRowGroup * w.columns) {
        switch (w.bits) {
            case 1: decode_group<L, 1>(w, row, out); break;
            case 2: decode_group<L, 2>(w, row, out); break;
            case 3: decode_group<L, 3>(w, row, out); break;
            default: decode_group<L, 4>(w, row, out);
        }
    }
}

}  // namespace leanto
