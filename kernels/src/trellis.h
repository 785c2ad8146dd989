// Products with coded matrices. A column's bits are a cyclic string in each block of rows; row t reads the window that starts at
// bits · t and looks it up in two tables. Lanes are neighbouring columns, so eight rows need a few byte rows and no gather.
#pragma once

#include <utility>

#include "dot.h"
#include "table.h"

namespace leanto {

template <Coding C, int Bits> constexpr int kWindow = C == Coding::trellis ? kTrellisWindow : C == Coding::additive ? kAdditiveWindow : Bits;

// The byte rows that hold the windows of one group of eight rows, wrapped around in their block. L keeps instruction sets apart.
template <class L, Coding C, int Bits> struct GroupStream {
    static constexpr size_t kSpan = (7 * Bits + kWindow<C, Bits> + 7) / 8;
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

// The Width bits that start at Bit, for a strip of columns.
template <class L, int Bit, int Width, size_t Span> typename L::Bytes slice_at(const typename L::Bytes (&stream)[Span]) {
    if constexpr (Bit % 8 + Width <= 8) {
        return L::template slice<Bit % 8, Width>(stream[Bit / 8]);
    } else {
        return L::template slice<Bit % 8, Width>(stream[Bit / 8], stream[Bit / 8 + 1]);
    }
}

// The window that starts at Bit, looked up for a strip of columns. Trellis: A[w0 ^ w8] + B[w4 ^ (w8 << 1)], the shift kept to 4 bits by the
// look-up; additive: A[w0] + B[w4]; scalar: A[the row's own bits].
template <class L, Coding C, int Bits, int Bit, size_t Span>
typename L::Bytes window_values(const typename L::Bytes (&stream)[Span], typename L::Bytes a, typename L::Bytes b) {
    if constexpr (C == Coding::scalar) {
        return L::look_up(a, slice_at<L, Bit, Bits>(stream));
    } else {
        const auto w0 = slice_at<L, Bit, 4>(stream), w4 = slice_at<L, Bit + 4, 4>(stream);
        if constexpr (C == Coding::additive) {
            return L::add_bytes(L::look_up(a, w0), L::look_up(b, w4));
        } else {
            const auto w8 = slice_at<L, Bit + 8, 4>(stream);
            return L::add_bytes(L::look_up(a, L::exclusive_or(w0, w8)), L::look_up(b, L::exclusive_or(w4, L::add_bytes(w8, w8))));
        }
    }
}

// The two tables, A with a bias on every value that comes out.
template <class L> struct Tables {
    typename L::Bytes a, b;

    Tables(const TrellisCodes& w, int bias) : b(L::broadcast16(w.tables + 16)) {
        int8_t biased[16];
        for (int i = 0; i < 16; ++i) biased[i] = int8_t(w.tables[i] + bias);
        a = L::broadcast16(biased);
    }
};

// Calls each(row, values) for the eight rows of a group in the strip of columns that starts at `column`.
template <class L, Coding C, int Bits, class Strip, class Each>
void each_row(const GroupStream<L, C, Bits>& stream, const Tables<L>& tables, size_t column, Strip strip, Each each) {
    constexpr size_t kSpan = GroupStream<L, C, Bits>::kSpan;
    const auto a = tables.a, b = tables.b;
    typename L::Bytes bytes[kSpan];
    for (size_t i = 0; i < kSpan; ++i) bytes[i] = L::load_bytes(stream.at[i] + column, strip);
    [&]<int... Row>(std::integer_sequence<int, Row...>) {
        (each(Row, window_values<L, C, Bits, Bits * Row>(bytes, a, b)), ...);
    }(std::make_integer_sequence<int, kRowGroup>{});
}

template <class L, Coding C, int Bits> void decode_group(const TrellisCodes& w, size_t row, int bias, int8_t* out) {
    const GroupStream<L, C, Bits> stream(w, row);
    const Tables<L> tables(w, bias);
    each_strip<L>(w.columns, [&](size_t c, auto strip) {
        each_row(stream, tables, c, strip, [&](int r, typename L::Bytes values) { L::store_bytes(out + r * w.columns + c, values, strip); });
    });
}

template <class L, Coding C, int Bits> void multiply_group(const TrellisCodes& w, size_t row, const int8_t* x, int32_t excess, int32_t* y) {
    const GroupStream<L, C, Bits> stream(w, row);
    const Tables<L> tables(w, L::kBias);
    const size_t ahead = 2 * kRowGroup * Bits / 8 * w.columns;  // two groups of rows: the hardware loses the thread at each row's end
    typename L::Ints sums[kRowGroup];
    for (auto& sum : sums) sum = L::start(excess);
    each_strip<L>(w.columns, [&](size_t c, auto strip) {
        for (int i = 0; i < Bits; ++i) L::prefetch(stream.at[i] + c + ahead);
        const auto values = L::operand(L::load_bytes(x + c, strip));
        each_row(stream, tables, c, strip, [&](int r, typename L::Bytes weights) { sums[r] = L::dot(sums[r], values, weights); });
    });
    L::store_sums(y, sums);
}

// Calls call<C, Bits>() for what w says at run time.
template <class L, class Call> void with_form(const TrellisCodes& w, Call call) {
    const auto with_bits = [&]<Coding C>() {
        switch (w.bits) {
            case 1: return call.template operator()<C, 1>();
            case 2: return call.template operator()<C, 2>();
            case 3: return call.template operator()<C, 3>();
            default: return call.template operator()<C, 4>();
        }
    };
    switch (w.coding) {
        case Coding::trellis: return with_bits.template operator()<Coding::trellis>();
        case Coding::additive: return with_bits.template operator()<Coding::additive>();
        default: return with_bits.template operator()<Coding::scalar>();
    }
}

template <class L>
void trellis_product(const TrellisCodes& w, const int8_t* x, size_t tokens, size_t first, size_t last, int8_t* tile, int32_t* y,
                     size_t stride) {
    with_form<L>(w, [&]<Coding C, int Bits>() {
        each_run<L>(x, w.columns, tokens, y, stride, [&](const int8_t* run, const int32_t* excess, size_t count, int32_t* out) {
            for (size_t row = first; row < last; row += kRowGroup) {
                if (count == 1) {
                    multiply_group<L, C, Bits>(w, row, run, *excess, out + (row - first));
                } else {  // decode once for all tokens
                    decode_group<L, C, Bits>(w, row, L::kBias, tile);
                    int8_rows<L, kRowGroup, true>(tile, w.columns, run, excess, count, out + (row - first), stride);
                }
            }
        });
    });
}

template <class L> void trellis_decode(const TrellisCodes& w, size_t first, size_t last, int8_t* out) {
    with_form<L>(w, [&]<Coding C, int Bits>() {
        for (size_t row = first; row < last; row += kRowGroup) decode_group<L, C, Bits>(w, row, 0, out + (row - first) * w.columns);
    });
}

}  // namespace leanto
