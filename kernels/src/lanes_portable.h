// The vector operations that the kernels are written in, as plain loops over 8 floats or 32 bytes: the portable instruction set.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "half.h"
#include "table.h"

namespace leanto {

struct Portable {
    struct Floats {
        float at[8];
    };
    struct Bytes {
        uint8_t at[32];
    };
    struct Ints {
        int32_t at[8];
    };
    using Operand = Bytes;  // a strip of the vector, made ready for products
    using Wide = Portable;  // where floats of attention are worth more lanes than 8
    static constexpr size_t kFloats = 8;
    static constexpr size_t kColumns = 32;  // of a full strip; narrower ones are filled with zeros
    static constexpr int kTokens = 1;       // vectors multiplied at once, as registers allow

    template <class F> static Floats floats(F f) {
        Floats r;
        for (int i = 0; i < 8; ++i) r.at[i] = f(i);
        return r;
    }
    template <class F> static Bytes bytes(F f) {
        Bytes r;
        for (int i = 0; i < 32; ++i) r.at[i] = static_cast<uint8_t>(f(i));
        return r;
    }

    static Floats broadcast(float x) {
        return floats([&](int) { return x; });
    }
    static Floats load(const float* p) {
        return floats([&](int i) { return p[i]; });
    }
    static Floats load_some(const float* p, size_t n, float fill) {
        return floats([&](int i) { return size_t(i) < n ? p[i] : fill; });
    }
    static Floats load_half(const uint16_t* p) {
        return floats([&](int i) { return half_to_float(p[i]); });
    }
    static void store_half(uint16_t* p, Floats x) {
        for (int i = 0; i < 8; ++i) p[i] = float_to_half(x.at[i]);
    }
    static Floats load_int8(const int8_t* p) {
        return floats([&](int i) { return float(p[i]); });
    }
    static void store(float* p, Floats x) { std::memcpy(p, x.at, sizeof x.at); }
    static void store_some(float* p, Floats x, size_t n) { std::memcpy(p, x.at, n * sizeof(float)); }
    static Floats add(Floats x, Floats y) {
        return floats([&](int i) { return x.at[i] + y.at[i]; });
    }
    static Floats subtract(Floats x, Floats y) {
        return floats([&](int i) { return x.at[i] - y.at[i]; });
    }
    static Floats multiply(Floats x, Floats y) {
        return floats([&](int i) { return x.at[i] * y.at[i]; });
    }
    static Floats divide(Floats x, Floats y) {
        return floats([&](int i) { return x.at[i] / y.at[i]; });
    }
    static Floats multiply_add(Floats x, Floats y, Floats z) {
        return floats([&](int i) { return x.at[i] * y.at[i] + z.at[i]; });
    }
    static Floats max(Floats x, Floats y) {
        return floats([&](int i) { return x.at[i] > y.at[i] ? x.at[i] : y.at[i]; });
    }
    static Floats exp(Floats x) {
        return floats([&](int i) { return std::exp(x.at[i]); });
    }
    static float sum(Floats x) { return ((x.at[0] + x.at[4]) + (x.at[2] + x.at[6])) + ((x.at[1] + x.at[5]) + (x.at[3] + x.at[7])); }
    static void store_sums(float* y, const Floats (&sums)[4]) {
        for (int i = 0; i < 4; ++i) y[i] = sum(sums[i]);
    }
    // The Hadamard transform of each run of 8.
    static Floats butterfly(Floats x) {
        for (int h = 1; h < 8; h *= 2) x = floats([&](int i) { return i & h ? x.at[i ^ h] - x.at[i] : x.at[i] + x.at[i ^ h]; });
        return x;
    }

    static uint32_t magnitude_bits(float x) {
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        return bits & 0x7fffffffu;
    }
    // The largest |x| as the bits of a float: not finite if any value is not.
    static uint32_t max_magnitude(const float* x, size_t n) {
        uint32_t largest = 0;
        for (size_t i = 0; i < n; ++i) largest = magnitude_bits(x[i]) > largest ? magnitude_bits(x[i]) : largest;
        return largest;
    }
    // q[0..8) = x rounded half to even; |x| < 128.
    static void store_rounded(int8_t* q, Floats x) {
        for (int i = 0; i < 8; ++i) q[i] = static_cast<int8_t>(std::nearbyint(x.at[i]));
    }

    static void prefetch(const void*) {}
    static Bytes load_bytes(const void* p, Width<32>) {
        Bytes r;
        std::memcpy(r.at, p, 32);
        return r;
    }
    static void store_bytes(void* p, Bytes x, Width<32>) { std::memcpy(p, x.at, 32); }
    static Bytes broadcast16(const int8_t* p) {
        return bytes([&](int i) { return p[i & 15]; });
    }
    static Bytes look_up(Bytes table, Bytes index) {
        return bytes([&](int i) { return table.at[index.at[i] & 15]; });
    }
    static Bytes add_bytes(Bytes x, Bytes y) {
        return bytes([&](int i) { return x.at[i] + y.at[i]; });
    }
    static Bytes exclusive_or(Bytes x, Bytes y) {
        return bytes([&](int i) { return x.at[i] ^ y.at[i]; });
    }
    // Bits [Shift, Shift + Width) of each byte, or of the byte and the one that follows it in the stream.
    template <int Shift, int Width> static Bytes slice(Bytes x) {
        return bytes([&](int i) { return (x.at[i] >> Shift) & ((1 << Width) - 1); });
    }
    template <int Shift, int Width> static Bytes slice(Bytes x, Bytes next) {
        return bytes([&](int i) { return (x.at[i] >> Shift | next.at[i] << (8 - Shift)) & ((1 << Width) - 1); });
    }
    // sum + w · x in partial sums; neither x nor w holds -128. A set whose instructions want unsigned weights adds kBias to each, in the
    // table A or by `biased`, and begins every sum with what that will add to it, taken away.
    static constexpr int kBias = 0;
    static Bytes biased(Bytes w) { return w; }
    static Operand operand(Bytes x) { return x; }
    static Ints start(int32_t /*excess*/) { return {}; }
    static Ints dot(Ints sum, Operand x, Bytes w) {
        for (int i = 0; i < 32; ++i) sum.at[i % 8] += int16_t(int8_t(x.at[i])) * int16_t(int8_t(w.at[i]));
        return sum;
    }
    static void store_sums(int32_t* y, const Ints (&sums)[8]) {
        for (int i = 0; i < 8; ++i) y[i] = sum_ints(sums[i]);
    }
    static int32_t sum_ints(Ints x) {
        int32_t s = 0;
        for (int i = 0; i < 8; ++i) s += x.at[i];
        return s;
    }
};

}  // namespace leanto
