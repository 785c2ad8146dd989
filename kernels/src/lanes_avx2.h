// The vector operations that the kernels are written in, for AVX2 with FMA and F16C. See lanes_portable.h for what each does.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "table.h"

namespace leanto {
namespace {  // each file that includes it has its own: none may run another's instructions

struct Avx2 {
    using Floats = __m256;
    using Bytes = __m256i;
    using Ints = __m256i;
    struct Operand {
        Bytes values, magnitude;
    };
    using Wide = Avx2;
    static constexpr size_t kFloats = 8;
    static constexpr size_t kColumns = 32;
    static constexpr int kTokens = 1;

    static Floats broadcast(float x) { return _mm256_set1_ps(x); }
    static Floats load(const float* p) { return _mm256_loadu_ps(p); }
    static __m256i first(size_t n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
    static Floats load_some(const float* p, size_t n, float fill) {
        const __m256i mask = first(n);
        return _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
    }
    static Floats load_half(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
    static void store_half(uint16_t* p, Floats x) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    static Floats load_int8(const int8_t* p) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    static void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
    static void store_some(float* p, Floats x, size_t n) { _mm256_maskstore_ps(p, first(n), x); }
    static Floats add(Floats x, Floats y) { return _mm256_add_ps(x, y); }
    static Floats subtract(Floats x, Floats y) { return _mm256_sub_ps(x, y); }
    static Floats multiply(Floats x, Floats y) { return _mm256_mul_ps(x, y); }
    static Floats divide(Floats x, Floats y) { return _mm256_div_ps(x, y); }
    static Floats multiply_add(Floats x, Floats y, Floats z) { return _mm256_fmadd_ps(x, y, z); }
    static Floats max(Floats x, Floats y) { return _mm256_max_ps(x, y); }

    // 2^n · e^r with |r| <= ln 2 / 2, e^r by its Taylor polynomial of degree 7 (relative error below 1e-8 before rounding).
    // The operands of min and max stand so that a NaN passes through.
    static Floats exp(Floats x) {
        x = _mm256_min_ps(_mm256_set1_ps(88.3f), _mm256_max_ps(_mm256_set1_ps(-87.3f), x));
        const Floats n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        Floats r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
        r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
        constexpr float coefficients[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
        Floats p = _mm256_set1_ps(1.0f / 5040);
        for (const float c : coefficients) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
        const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
        return _mm256_mul_ps(p, _mm256_castsi256_ps(exponent));
    }

    static float sum(Floats x) {
        __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
        s = _mm_add_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
    }
    static void store_sums(float* y, const Floats (&sums)[4]) {
        const __m256 halves = _mm256_hadd_ps(_mm256_hadd_ps(sums[0], sums[1]), _mm256_hadd_ps(sums[2], sums[3]));
        _mm_storeu_ps(y, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
    }
    static Floats butterfly(Floats x) {
        const __m256 minus = _mm256_set1_ps(-0.0f);
        x = _mm256_add_ps(_mm256_permute_ps(x, 0xB1), _mm256_xor_ps(x, _mm256_blend_ps(_mm256_setzero_ps(), minus, 0xAA)));
        x = _mm256_add_ps(_mm256_permute_ps(x, 0x4E), _mm256_xor_ps(x, _mm256_blend_ps(_mm256_setzero_ps(), minus, 0xCC)));
        return _mm256_add_ps(_mm256_permute2f128_ps(x, x, 1), _mm256_xor_ps(x, _mm256_blend_ps(_mm256_setzero_ps(), minus, 0xF0)));
    }

    static uint32_t max_magnitude(const float* x, size_t n) {
        __m256i largest = _mm256_setzero_si256();
        for (size_t i = 0; i < n; i += 8) {
            const __m256i bits = _mm256_castps_si256(n - i >= 8 ? load(x + i) : load_some(x + i, n - i, 0.0f));
            largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
        }
        __m128i m = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
        m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
        return uint32_t(_mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1))));
    }
    static void store_rounded(int8_t* q, Floats x) {
        const __m256i wide = _mm256_cvtps_epi32(x);
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(q), _mm_packs_epi16(words, words));
    }

    static void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
    static Bytes load_bytes(const void* p, Width<32>) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    static void store_bytes(void* p, Bytes x, Width<32>) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
    static Bytes broadcast16(const int8_t* p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
    // The index's bits 0..3 count and its bit 7 is clear.
    static Bytes look_up(Bytes table, Bytes index) { return _mm256_shuffle_epi8(table, index); }
    static Bytes add_bytes(Bytes x, Bytes y) { return _mm256_add_epi8(x, y); }
    static Bytes exclusive_or(Bytes x, Bytes y) { return _mm256_xor_si256(x, y); }
    template <int Shift, int Width> static Bytes slice(Bytes x) {
        return _mm256_and_si256(Shift ? _mm256_srli_epi16(x, Shift) : x, _mm256_set1_epi8((1 << Width) - 1));
    }
    template <int Shift, int Width> static Bytes slice(Bytes x, Bytes next) {
        constexpr int all = (1 << Width) - 1, low = (1 << (8 - Shift)) - 1;
        return _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(x, Shift), _mm256_set1_epi8(low)),
                               _mm256_and_si256(_mm256_slli_epi16(next, 8 - Shift), _mm256_set1_epi8(all & ~low)));
    }
    // |x| <= 127 and |w| <= 127, so the sums of two products fit int16.
    static constexpr int kBias = 0;
    static Bytes biased(Bytes w) { return w; }
    static Operand operand(Bytes x) { return {x, _mm256_abs_epi8(x)}; }
    static Ints start(int32_t /*excess*/) { return _mm256_setzero_si256(); }
    static Ints dot(Ints sum, Operand x, Bytes w) {
        const __m256i pairs = _mm256_maddubs_epi16(x.magnitude, _mm256_sign_epi8(w, x.values));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    static void store_sums(int32_t* y, const Ints (&sums)[8]) {
        const __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
        const __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[4], sums[5]), _mm256_hadd_epi32(sums[6], sums[7]));
        store_bytes(y, _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)), Width<32>());
    }
    static int32_t sum_ints(Ints x) {
        __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
        return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
    }
};

}  // namespace
}  // namespace leanto
