// SPDX-License-Identifier: Apache-2.0
// CUDA's vector types, with CUDA's sizes and alignments (a misaligned vector load is then one that
// UBSan reports).
#pragma once

#define DGM_SIMT_VECTOR2(name, T, alignment) \
  struct alignas(alignment) name {           \
    T x, y;                                  \
  };                                         \
  inline constexpr name make_##name(T x, T y) { return {x, y}; }
#define DGM_SIMT_VECTOR3(name, T) \
  struct name {                   \
    T x, y, z;                    \
  };                              \
  inline constexpr name make_##name(T x, T y, T z) { return {x, y, z}; }
#define DGM_SIMT_VECTOR4(name, T, alignment) \
  struct alignas(alignment) name {           \
    T x, y, z, w;                            \
  };                                         \
  inline constexpr name make_##name(T x, T y, T z, T w) { return {x, y, z, w}; }

DGM_SIMT_VECTOR2(int2, int, 8)
DGM_SIMT_VECTOR3(int3, int)
DGM_SIMT_VECTOR4(int4, int, 16)
DGM_SIMT_VECTOR2(uint2, unsigned, 8)
DGM_SIMT_VECTOR3(uint3, unsigned)
DGM_SIMT_VECTOR4(uint4, unsigned, 16)
DGM_SIMT_VECTOR2(float2, float, 8)
DGM_SIMT_VECTOR3(float3, float)
DGM_SIMT_VECTOR4(float4, float, 16)
DGM_SIMT_VECTOR2(double2, double, 16)
DGM_SIMT_VECTOR2(longlong2, long long, 16)
DGM_SIMT_VECTOR2(ulonglong2, unsigned long long, 16)
DGM_SIMT_VECTOR4(uchar4, unsigned char, 4)

#undef DGM_SIMT_VECTOR2
#undef DGM_SIMT_VECTOR3
#undef DGM_SIMT_VECTOR4

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};
