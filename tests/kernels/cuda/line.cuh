/* SPDX-License-Identifier: Apache-2.0 */
__device__ inline float line(float a, float x, int i) { return a * x + (float)i; }
