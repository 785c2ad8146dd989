// The kernels for AVX2. Nothing here may leave code behind that other files share: no standard containers, templates of the lanes only.
#ifdef LEANTO_AVX2
#include "instantiate.h"
#include "lanes_avx2.h"

namespace leanto {

const Kernels& avx2_kernels() {
    static constexpr Kernels set = make_kernels<Avx2>("avx2");
    return set;
}

}  // namespace leanto
#endif
