// NumPy arrays at the border: what functions accept, and new arrays to return.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

namespace leanto {

namespace nb = nanobind;

template <class T> using Array = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
using AnyArray = nb::ndarray<nb::ro, nb::device::cpu>;
template <class T> using NewArray = nb::ndarray<nb::numpy, T>;

template <class T> NewArray<T> new_array(const std::vector<size_t>& shape) {
    size_t size = 1;
    for (const size_t n : shape) size *= n;
    T* data = new T[size > 0 ? size : 1];
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return NewArray<T>(data, shape.size(), shape.data(), owner);
}

template <class A> std::vector<size_t> shape_of(const A& array) {
    std::vector<size_t> shape;
    for (size_t i = 0; i < array.ndim(); ++i) shape.push_back(array.shape(i));
    return shape;
}

inline void demand(bool condition, const std::string& message) {
    if (!condition) throw std::invalid_argument(message);
}

}  // namespace leanto
