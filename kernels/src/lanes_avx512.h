// AVX-512 with VBMI and VNNI: products of 64 columns at a time; floats stay those of AVX2. See lanes_portable.h for what each does.
#pragma once

#include "lanes_avx2.h"

namespace leanto {
namespace {  // each file that includes it has its own: none may run another's instructions

// Sixteen floats, for attention.
struct Avx512Wide {
    using Floats = __m512;
    static constexpr size_t kFloats = 16;

    static Floats broadcast(float x) { return _mm512_set1_ps(x); }
    static Floats load(const float* p) { return _mm512_loadu_ps(p); }
    static Floats load_half(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
    static Floats load_int8(const int8_t* p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    static void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
    static Floats multiply(Floats x, Floats y) { return _mm512_mul_ps(x, y); }
    static Floats multiply_add(Floats x, Floats y, Floats z) { return _mm512_fmadd_ps(x, y, z); }
    static void store_sums(float* y, const Floats (&sums)[4]) {
        __m256 halves[4];
        for (int i = 0; i < 4; ++i) {
            const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sums[i]), 1));
            halves[i] = _mm256_add_ps(_mm512_castps512_ps256(sums[i]), high);
        }
        Avx2::store_sums(y, halves);
    }
};

struct Avx512 : Avx2 {
    using Wide = Avx512Wide;
    using Bytes = __m512i;
    using Ints = __m512i;
    using Operand = __m512i;
    static constexpr size_t kColumns = 64;
    static constexpr int kTokens = 2;

    using Avx2::store_sums;
    static Bytes load_bytes(const void* p, Width<64>) { return _mm512_loadu_si512(p); }
    static Bytes load_bytes(const void* p, Width<32>) {
        return _mm512_zextsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    }
    static void store_bytes(void* p, Bytes x, Width<64>) { _mm512_storeu_si512(p, x); }
    static void store_bytes(void* p, Bytes x, Width<32>) {
        _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_castsi512_si256(x));
    }
    static Bytes broadcast16(const int8_t* p) { return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
    // Looks at six bits of the index: with the table repeated four times, bits 4 and up do not matter.
    static Bytes look_up(Bytes table, Bytes index) { return _mm512_permutexvar_epi8(index, table); }
    static Bytes add_bytes(Bytes x, Bytes y) { return _mm512_add_epi8(x, y); }
    static Bytes exclusive_or(Bytes x, Bytes y) { return _mm512_xor_si512(x, y); }
    // Four bits and more, and above them what happens to be there; fewer are cut out.
    template <int Shift, int Width> static Bytes slice(Bytes x) {
        const __m512i shifted = Shift ? _mm512_srli_epi16(x, Shift) : x;
        return Width < 4 ? _mm512_and_si512(shifted, _mm512_set1_epi8((1 << Width) - 1)) : shifted;
    }
    template <int Shift, int Width> static Bytes slice(Bytes x, Bytes next) {
        constexpr int choose = 0xCA;  // first ? second : third, bit by bit
        const __m512i low = _mm512_set1_epi8((1 << (8 - Shift)) - 1);
        const __m512i both = _mm512_ternarylogic_epi64(low, _mm512_srli_epi16(x, Shift), _mm512_slli_epi16(next, 8 - Shift), choose);
        return Width < 4 ? _mm512_and_si512(both, _mm512_set1_epi8((1 << Width) - 1)) : both;
    }

    static constexpr int kBias = -128;  // a byte that is w + 128 when read without a sign
    static Bytes biased(Bytes w) { return _mm512_xor_si512(w, _mm512_set1_epi8(-128)); }
    static Operand operand(Bytes x) { return x; }
    static Ints start(int32_t excess) { return _mm512_zextsi128_si512(_mm_cvtsi32_si128(int32_t(0u - uint32_t(excess)))); }
    static Ints dot(Ints sum, Operand x, Bytes w) { return _mm512_dpbusd_epi32(sum, w, x); }
    static void store_sums(int32_t* y, const Ints (&sums)[8]) {
        __m256i halves[8];
        for (int i = 0; i < 8; ++i) halves[i] = half(sums[i]);
        Avx2::store_sums(y, halves);
    }
    static int32_t sum_ints(Ints x) { return Avx2::sum_ints(half(x)); }

  private:
    static __m256i half(__m512i x) { return _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1)); }
};

}  // namespace
}  // namespace leanto
