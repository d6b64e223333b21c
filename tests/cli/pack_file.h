/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pack_file.h
 * \brief Writes small kernel packs, for tests of the command line. Their kernels are PTX that does
 *        nothing: no compiler and no GPU is needed.
 */
#ifndef PEGA_TESTS_CLI_PACK_FILE_H_
#define PEGA_TESTS_CLI_PACK_FILE_H_

#include "support.h"

/** \brief Functions of a pack, in JSON with ' for ". */
#define PACK_KEEP PACK_GOLDEN("t.keep", "stays", "@ones@")
/** \brief Its golden case expects what the kernel does not do: 4 elements are 1 instead of 2. */
#define PACK_WRONG PACK_GOLDEN("t.wrong", "changes", "@twos@")
#define PACK_GOLDEN(name, golden, expected) PACK_GOLDEN_TO(name, golden, expected, "0")
/** \brief Expects NaN, which 1 is not; and 1 to a relative tolerance. */
#define PACK_NANS PACK_GOLDEN("t.nans", "wants none", "@nans@")
#define PACK_RELATIVE PACK_GOLDEN_TO("t.relative", "nearly", "@ones@", "0.25")
#define PACK_GOLDEN_TO(name, golden, expected, relative) \
  "{'name':'" name                                                                               \
  "','doc':'Keeps x.','params':["                                                                \
  "{'name':'x','type':'pointer','doc':'four ones','nonnull':true,'output':true,'alignment':16,"  \
  "'pointee':{'dtype':'float32','shape':'n','layout':'row-major'}},"                             \
  "{'name':'n','type':'int','min':0,'max':1000,'domain':'a few'},"                               \
  "{'name':'s','type':'stream'}],"                                                               \
  "'variants':[" PACK_VARIANT("sm_80", "") "," PACK_VARIANT("sm_90", "'when':['n > 1'],") "],"    \
  "'golden':[{'name':'" golden                                                                   \
  "','args':{'n':4,'x':{'dtype':'float32','shape':[4],'fill':{'generator':'constant','value':1}," \
  "'expect':{'blob':'" expected "','atol':0.5,'rtol':" relative "}}}}]}"
#define PACK_VARIANT(target, when)                                                              \
  "{'target':'" target "','blob':'@" target "@','entry':'keep'," when                           \
  "'params':[{'name':'px','type':'pointer','offset':0,'size':8,'role':'argument','value':'x'}," \
  "{'name':'pn','type':'i32','offset':8,'size':4,'role':'argument','value':'n'}],"              \
  "'grid':['cdiv(n, 64)','1','1'],'block':[64,1,1],'shared':1024,'static_shared':16,"           \
  "'registers':24,'local_bytes':8,'made_by':{'tool':'hand','version':'1','assembler':'none 2'," \
  "'source':'keep.py','flags':{'num_warps':2,'fast':true}}}"
/** \brief A function on a tensor. */
#define PACK_TENSOR                                                                             \
  "{'name':'t.tensor','params':[{'name':'t','type':'Tensor','dtype':'float32','shape':'M, 4',"  \
  "'output':true}],'variants':[{'target':'sm_90','blob':'@sm_90@','entry':'keep',"              \
  "'params':[{'name':'px','type':'pointer','offset':0,'size':8,'role':'argument','value':'t'}," \
  "{'name':'pn','type':'i32','offset':8,'size':4,'role':'argument','value':'M'},"               \
  "{'name':'gs','type':'pointer','offset':16,'size':8,'role':'global_scratch'}],"               \
  "'grid':['M','1','1'],'block':[32,1,1],'cluster':[2,1,1],'shared':0,'static_shared':0,"       \
  "'registers':16,'local_bytes':0,'pdl':true,'cooperative':true,"                               \
  "'global_scratch':{'size':256,'alignment':128}}]}"

/** \brief A function on a number and a stream. */
#define PACK_NUMBERS                                                                       \
  "{'name':'t.numbers','params':[{'name':'n','type':'int'},{'name':'s','type':'stream'}]," \
  "'variants':[{'target':'sm_80','blob':'@sm_80@','entry':'keep','params':["               \
  "{'name':'pn','type':'i64','offset':0,'size':8,'role':'argument','value':'n'},"          \
  "{'name':'pm','type':'i32','offset':8,'size':4,'role':'argument','value':'n'}],"         \
  "'grid':['n','1','1'],'block':[1,1,1],'shared':0,'static_shared':0,'registers':0,"       \
  "'local_bytes':0}]}"

/** \brief A function whose blob is no PTX: opening finds nothing, verifying does. */
#define PACK_NUL                                                                             \
  "{'name':'t.nul','params':[],'variants':[{'target':'sm_80','blob':'@nul@','entry':'keep'," \
  "'params':[],'grid':['1','1','1'],'block':[1,1,1],'shared':0,'static_shared':0,"           \
  "'registers':0,'local_bytes':0}]}"

/** \brief A pack named "small" with these functions, and the blobs that they refer to. */
typedef struct pack_text {
  const char *doc;       /**< in JSON with ' for " */
  const char *functions; /**< "," between them */
} pack_text;

/** \brief Writes it as a file, or as a folder that must not be there. */
void write_pack_file(const char *path, const pack_text *text);
void write_pack_folder(const char *path, const pack_text *text);
/** \brief Changes one byte of a blob of a pack file. */
void damage_pack_file(const char *path);

#endif  // PEGA_TESTS_CLI_PACK_FILE_H_
