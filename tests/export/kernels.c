/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#define N "{'name':'n','type':'int','min':0,'max':1000000}"
#define X "{'name':'x_ptr','type':'pointer','alignment':16}"
#define Y \
  "{'name':'y_ptr','type':'pointer','alignment':16,'output':true,'pointee':{'dtype':'float32','shape':'n'}}"
#define STREAM "{'name':'stream','type':'stream'}"
#define TENSOR_PARAM(name, more) \
  "{'name':'" name "','type':'Tensor','dtype':'float32','shape':'T, 4'" more "}"

bytes kernels_make(void) {
  static const kernel_param scale[] = {PARAM("pointer", "x_ptr"), PARAM("pointer", "y_ptr"),
                                       PARAM("i32", "n"), PARAM("f32", "by"), END_OF_PARAMS};
  static const char ptx[] = ".version 8.6\n.target sm_100\n.visible .entry scale_ptx() { ret; }\n";
  static const kernel_variant scale_variants[] = {
      {"sm_90a", "scale", .when = "['n <= 64']", .params = scale, .grid = {"1"}},
      {"sm_90a", "scale_large", .params = scale, .grid = {"cdiv(n, 128)"}, .block = {128}},
      {"sm_80", "scale_80", .params = scale, .grid = {"cdiv(n, 128)"}},
      {"sm_100", "scale_ptx", .params = scale, .grid = {"1"}, .ptx = ptx},
  };
  static const kernel_param add[] = {PARAM("pointer", "a"),       PARAM("pointer", "b"),
                                     PARAM("pointer", "sum"),     PARAM("pointer", "mask"),
                                     PARAM("i64", "shape(a, 0)"), END_OF_PARAMS};
  static const kernel_variant add_variant = {"sm_90a", "add", .params = add, .grid = {"T"}};
  static const kernel_param scratch[] = {PARAM("pointer", "x_ptr"), PARAM("i32", "n"),
                                         SCRATCH("global_scratch"), END_OF_PARAMS};
  static const kernel_variant scratch_variant = {"sm_90a",
                                                 "scratch",
                                                 .params = scratch,
                                                 .grid = {"n"},
                                                 .global_scratch = 256,
                                                 .global_alignment = 128};
  static const kernel_param map[] = {
      {.type = "tensor_map",
       .value = "x",
       .role = "tensor_descriptor",
       .encoding =
           "{'block':[8,4],'swizzle':0,'elem_type':7,'elem_size':4,'padding':0,'interleave':0,"
           "'l2_promotion':0}"},
      END_OF_PARAMS};
  static const kernel_variant map_variant = {"sm_90a", "map", .params = map, .grid = {"1"}};
  static const kernel_variant odd_variant = {"sm_90a", "odd", .params = scratch + 1, .grid = {"1"},
                                             .global_scratch = 0};
  const kernel_function functions[] = {
      {KERNELS_SCALE, "[" X "," Y "," N ",{'name':'by','type':'float'}," STREAM "]", scale_variants,
       COUNT(scale_variants), NULL},
      {KERNELS_ADD,
       "[" TENSOR_PARAM("a", "") "," TENSOR_PARAM("b", "") "," TENSOR_PARAM(
           "sum", ",'output':true") "," TENSOR_PARAM("mask", ",'optional':true") "]",
       &add_variant, 1, NULL},
      {KERNELS_SCRATCH, "[" X "," N "," STREAM "]", &scratch_variant, 1, NULL},
      {KERNELS_MAP, "[" TENSOR_PARAM("x", "") "]", &map_variant, 1, NULL},
      {KERNELS_ODD, "[" N "," STREAM "]", &odd_variant, 1, NULL},
  };
  return pack_make("kernels", functions, COUNT(functions), NULL, 0);
}
