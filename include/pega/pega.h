/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/pega.h
 * \brief libpega: functions with typed signatures that an inference engine calls and exports.
 *
 * A function is called the same way whatever made it: the library, the host, a module of a foreign
 * runtime that a bridge joins, or a kernel. This header is the manual; docs/contract.md tells how
 * the pieces work together.
 *
 * ## Words
 * - *borrowed*: the callee may use the pointer until it returns and keeps nothing of it.
 * - *takes*: on success ownership passes to the callee; on failure it stays with the caller.
 * - *returns owned*: the caller receives one reference and gives it back with the named function.
 * - *counted*: an object with an atomic reference count; any thread may retain and release it.
 *
 * ## Errors
 * Every fallible function returns a pega_status and takes an optional `pega_error *error` last. On
 * success it holds nothing new (a call of a function leaves it empty). On failure its old content
 * is replaced. No function prints, exits or aborts. An out-parameter is written on success only,
 * unless its text says otherwise.
 *
 * ## Threads
 * Every function may be called from any thread, except that one pega_error or pega_value is for one
 * thread at a time. A pega_function may be called by many threads at once if what it wraps may.
 *
 * ## Fork
 * In a child of fork the registry and open packs are whole and their locks are free, whatever other threads did
 * meanwhile. For a GPU see cuda.h.
 *
 * Everything here is since 0.1.0 unless it says otherwise.
 */
#ifndef PEGA_PEGA_H_
#define PEGA_PEGA_H_

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "dlpack.h"

#define PEGA_VERSION_MAJOR 0
#define PEGA_VERSION_MINOR 1
#define PEGA_VERSION_PATCH 0

#if defined(PEGA_STATIC)
#define PEGA_API
#else
#define PEGA_API __attribute__((visibility("default")))
#endif

#if defined(__GNUC__)
#define PEGA_PRINTF(format_index, first_arg) \
  __attribute__((format(printf, format_index, first_arg)))
#else
#define PEGA_PRINTF(format_index, first_arg)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** \brief Version of the library that is running, as major * 10000 + minor * 100 + patch. */
PEGA_API uint32_t pega_version(void);

/** \brief The same as text, "0.1.0". Static. */
PEGA_API const char *pega_version_string(void);

/* ------------------------------------------------------------------------------------ errors -- */

/**
 * \brief Every failing status (PEGA_ERROR_name): name, pinned number, default error kind.
 *
 * The kind is the name that Python-like peers know the error by. Numbers never change; new ones are
 * added at the end.
 */
#define PEGA_STATUS_LIST(X)                                                  \
  X(INVALID_ARGUMENT, 1, "ValueError")      /* NULL or malformed input */    \
  X(ARGUMENT_COUNT, 2, "TypeError")         /* too few or too many */        \
  X(TYPE, 3, "TypeError")                   /* wrong kind of value */        \
  X(RANGE, 4, "ValueError")                 /* number out of range */        \
  X(DTYPE, 5, "TypeError")                  /* tensor's element type */      \
  X(SHAPE, 6, "ValueError")                 /* tensor's rank or sizes */     \
  X(LAYOUT, 7, "ValueError")                /* strides or alignment */       \
  X(DEVICE, 8, "ValueError")                /* tensor's device */            \
  X(NOT_FOUND, 9, "KeyError")               /* name or file is not there */  \
  X(ALREADY_EXISTS, 10, "KeyError")         /* name is taken */              \
  X(OUT_OF_MEMORY, 11, "MemoryError")       /* an allocation failed */       \
  X(IO, 12, "OSError")                      /* the system refused */         \
  X(FORMAT, 13, "ValueError")               /* a file is not what it says */ \
  X(VERSION, 14, "RuntimeError")            /* too old or too new */         \
  X(SYMBOL, 15, "RuntimeError")             /* a library lacks a symbol */   \
  X(UNAVAILABLE, 16, "RuntimeError")        /* no driver, runtime, device */ \
  X(UNSUPPORTED, 17, "NotImplementedError") /* defined, not offered */       \
  X(CALLEE, 18, "RuntimeError")             /* the called function failed */ \
  X(DRIVER, 19, "RuntimeError")             /* the device driver failed */   \
  X(INTERNAL, 20, "InternalError")          /* a bug in this library */

/** \brief Outcome of a call: PEGA_OK or the reason for failure. */
typedef enum pega_status {
  PEGA_OK = 0,
#define PEGA_STATUS_ENUM_(name, number, kind) PEGA_ERROR_##name = number,
  PEGA_STATUS_LIST(PEGA_STATUS_ENUM_)
#undef PEGA_STATUS_ENUM_
} pega_status;

/** \brief Name of a status, "OK", "RANGE"; "UNKNOWN" for a number that has none. Static. */
PEGA_API const char *pega_status_name(pega_status status);

/** \brief What an error carries beyond its inline text. Opaque and counted. */
typedef struct pega_error_detail pega_error_detail;

/**
 * \brief An error: status, kind and text inline, and a detail where there is more to say.
 *
 * Start it as PEGA_ERROR_INIT; end it with pega_error_clear(), which frees the detail. An error may
 * be filled again and again without clearing. `message` is cut to its size with "..." where the
 * whole text is longer: pega_error_message() gives the whole.
 */
typedef struct pega_error {
  int32_t status;            /**< a pega_status */
  int32_t code;              /**< the foreign code (driver, errno, return value), or 0 */
  char kind[64];             /**< "TypeError", "ValueError", ...; a foreign error keeps its own */
  char message[944];         /**< what, where, expected, got, what to do; NUL-terminated */
  pega_error_detail *detail; /**< owned, or NULL */
} pega_error;

#define PEGA_ERROR_INIT \
  { 0, 0, {0}, {0}, NULL }

/** \brief Makes an error empty without looking at what is in it: PEGA_ERROR_INIT, but cheaper. */
static inline void pega_error_init(pega_error *error) {
  error->status = 0;
  error->code = 0;
  error->kind[0] = '\0';
  error->message[0] = '\0';
  error->detail = NULL;
}

/** \brief Frees what the error owns and makes it empty. Takes NULL. */
PEGA_API void pega_error_clear(pega_error *error);

/**
 * \brief Fills an error; what it held before is freed.
 * \param error May be NULL: then nothing happens but the return.
 * \param kind Borrowed; NULL for the status's own.
 * \return `status`, so that a function can `return pega_error_set(...)`.
 */
PEGA_API pega_status pega_error_set(pega_error *error, pega_status status, const char *kind,
                                    const char *format, ...) PEGA_PRINTF(4, 5);

/** \brief pega_error_set() for text that is not a format and may hold anything but NUL. */
PEGA_API pega_status pega_error_set_text(pega_error *error, pega_status status, const char *kind,
                                         const char *text, size_t size);

/** \brief Appends text (lines, innermost call first) to the traceback. Out of memory: unchanged. */
PEGA_API void pega_error_append_traceback(pega_error *error, const char *text, size_t size);

/**
 * \brief Makes `cause` the cause of `error`. Takes cause's content: `cause` is empty afterwards,
 *        whether or not there was memory to keep it. Drops what pega_error_attach() tied to
 *        `error`: with another cause it is another error.
 */
PEGA_API void pega_error_set_cause(pega_error *error, pega_error *cause);

/** \brief Replaces `destination` by a copy of `source` that shares its detail. */
PEGA_API void pega_error_copy(const pega_error *source, pega_error *destination);

/** \brief Kind of the error, "" for none. Valid until the error changes. */
PEGA_API const char *pega_error_kind(const pega_error *error);
/** \brief The whole message, "" for none. Valid until the error changes. */
PEGA_API const char *pega_error_message(const pega_error *error);
/** \brief The traceback, innermost call first, "" for none. Valid until the error changes. */
PEGA_API const char *pega_error_traceback(const pega_error *error);
/** \brief The error that caused this one, or NULL. Borrowed: valid until `error` changes. */
PEGA_API const pega_error *pega_error_cause(const pega_error *error);

/**
 * \brief Ties a foreign object to an error, for bridges that must give the same object back.
 *
 * `release(payload)` runs once, when the last copy of the error is cleared. If there is no memory
 * it runs at once. A later pega_error_set() drops it.
 */
PEGA_API void pega_error_attach(pega_error *error, const void *tag, void *payload,
                                void (*release)(void *payload));
/** \brief The payload attached with the same tag, or NULL. Borrowed. */
PEGA_API void *pega_error_payload(const pega_error *error, const void *tag);

/* ------------------------------------------------------------------------------------ values -- */

/** \brief What a value is. Numbers are pinned. */
typedef enum pega_kind {
  PEGA_NONE = 0,
  PEGA_BOOL = 1,
  PEGA_INT = 2,     /**< int64_t */
  PEGA_UINT = 3,    /**< uint64_t; other languages' boundaries deliver PEGA_INT where it fits */
  PEGA_FLOAT = 4,   /**< double */
  PEGA_POINTER = 5, /**< void *, meaning unknown to the library */
  PEGA_DTYPE = 6,   /**< DLDataType */
  PEGA_DEVICE = 7,  /**< DLDevice */
  PEGA_STRING = 8,  /**< UTF-8 bytes with a size, NUL allowed inside */
  PEGA_BYTES = 9,   /**< bytes with a size */
  PEGA_TENSOR = 10,
  PEGA_FUNCTION = 11,
  PEGA_ARRAY = 12, /**< immutable sequence of values */
  PEGA_MAP = 13,   /**< immutable sequence of (key, value) pairs */
  PEGA_OBJECT = 14 /**< an object of a host or a foreign runtime, passed through untouched */
} pega_kind;

/** \brief Name of a kind, "int". Static; "unknown" for a number that has none. */
PEGA_API const char *pega_kind_name(uint32_t kind);

/** \brief A counted object: string, bytes, tensor, function, array, map or opaque. */
typedef struct pega_object pega_object;
/** \brief A function; a counted object. */
typedef struct pega_function pega_function;

/** \brief Flag of a value whose payload is a counted object (`as.object`). */
#define PEGA_VALUE_COUNTED 1u

/**
 * \brief A value: 16 bytes, a tag and a payload.
 *
 * Without PEGA_VALUE_COUNTED a string, bytes or tensor value only points at memory of the caller's.
 * Arguments are borrowed: the callee releases nothing. Results are owned: the receiver releases
 * them with pega_value_release(), once. Use the functions below rather than the fields.
 */
typedef struct pega_value {
  uint16_t kind;  /**< a pega_kind */
  uint16_t flags; /**< 0 or PEGA_VALUE_COUNTED */
  uint32_t size;  /**< bytes of an uncounted string or bytes value; 0 otherwise */
  union {
    bool boolean;
    int64_t i64;
    uint64_t u64;
    double f64;
    void *pointer;
    DLDataType dtype;
    DLDevice device;
    const char *bytes;
    DLTensor *tensor;
    pega_object *object;
  } as;
} pega_value;

/** \brief None. */
static inline pega_value pega_value_none(void) {
  pega_value value;
  memset(&value, 0, sizeof value);
  return value;
}
/** \brief A value of the given kind with nothing else set. For the makers below. */
static inline pega_value pega_value_make_(uint16_t kind) {
  pega_value value = pega_value_none();
  value.kind = kind;
  return value;
}
/** \brief A bool. */
static inline pega_value pega_value_bool(bool boolean) {
  pega_value value = pega_value_make_(PEGA_BOOL);
  value.as.i64 = boolean ? 1 : 0;
  return value;
}
/** \brief A signed integer. */
static inline pega_value pega_value_int(int64_t i64) {
  pega_value value = pega_value_make_(PEGA_INT);
  value.as.i64 = i64;
  return value;
}
/** \brief An unsigned integer. */
static inline pega_value pega_value_uint(uint64_t u64) {
  pega_value value = pega_value_make_(PEGA_UINT);
  value.as.u64 = u64;
  return value;
}
/** \brief A floating-point number. */
static inline pega_value pega_value_float(double f64) {
  pega_value value = pega_value_make_(PEGA_FLOAT);
  value.as.f64 = f64;
  return value;
}
/** \brief A pointer whose meaning only caller and callee know; NULL stays a pointer. */
static inline pega_value pega_value_pointer(const void *pointer) {
  pega_value value = pega_value_make_(PEGA_POINTER);
  value.as.u64 = (uint64_t)(uintptr_t)pointer;
  return value;
}
/** \brief An element type. */
static inline pega_value pega_value_dtype(DLDataType dtype) {
  pega_value value = pega_value_make_(PEGA_DTYPE);
  value.as.dtype = dtype;
  return value;
}
/** \brief A device. */
static inline pega_value pega_value_device(DLDevice device) {
  pega_value value = pega_value_make_(PEGA_DEVICE);
  value.as.device = device;
  return value;
}
/**
 * \brief A view of `size` bytes of text, borrowed. At most 4 GiB - 1: a longer one becomes None.
 */
static inline pega_value pega_value_string_n(const char *text, size_t size) {
  pega_value value = pega_value_make_(PEGA_STRING);
  if (text == NULL || size > UINT32_MAX) return pega_value_none();
  value.size = (uint32_t)size;
  value.as.bytes = text;
  return value;
}
/** \brief A view of NUL-terminated text, borrowed; NULL becomes None. */
static inline pega_value pega_value_string(const char *text) {
  return pega_value_string_n(text, text == NULL ? 0 : strlen(text));
}
/** \brief A view of `size` bytes, borrowed. At most 4 GiB - 1: a longer one becomes None. */
static inline pega_value pega_value_bytes(const void *bytes, size_t size) {
  pega_value value = pega_value_string_n((const char *)bytes, size);
  if (value.kind == PEGA_STRING) value.kind = PEGA_BYTES;
  return value;
}
/** \brief A view of a tensor, borrowed; NULL becomes None. */
static inline pega_value pega_value_tensor(const DLTensor *tensor) {
  pega_value value = pega_value_make_(tensor == NULL ? PEGA_NONE : PEGA_TENSOR);
  value.as.u64 = (uint64_t)(uintptr_t)tensor;
  return value;
}
/** \brief A function, borrowed: the value holds no reference of its own; NULL becomes None. */
static inline pega_value pega_value_function(pega_function *function) {
  pega_value value = pega_value_make_(function == NULL ? PEGA_NONE : PEGA_FUNCTION);
  value.flags = function == NULL ? 0 : (uint16_t)PEGA_VALUE_COUNTED;
  value.as.object = (pega_object *)function;
  return value;
}

/**
 * \brief Text of a string value and its size, or NULL if it is none. Lives as long as the value.
 */
PEGA_API const char *pega_value_as_string(const pega_value *value, size_t *size);
/** \brief Bytes of a bytes value and their size, or NULL if it is none. */
PEGA_API const void *pega_value_as_bytes(const pega_value *value, size_t *size);
/** \brief Tensor of a tensor value, or NULL if it is none. Lives as long as the value. */
PEGA_API DLTensor *pega_value_as_tensor(const pega_value *value);
/** \brief Function of a function value, or NULL if it is none. Borrowed. */
PEGA_API pega_function *pega_value_as_function(const pega_value *value);

/** \brief Number of items of an array or of pairs of a map; -1 if the value is neither. */
PEGA_API int64_t pega_value_size(const pega_value *value);
/** \brief Item `index` of an array, or NULL. Borrowed: lives as long as the array. */
PEGA_API const pega_value *pega_array_get(const pega_value *array, int64_t index);
/** \brief Key (or value) of pair `index` of a map, or NULL. Borrowed. */
PEGA_API const pega_value *pega_map_key(const pega_value *map, int64_t index);
PEGA_API const pega_value *pega_map_value(const pega_value *map, int64_t index);
/** \brief Value of the string key `key`, or NULL. Borrowed. */
PEGA_API const pega_value *pega_map_get(const pega_value *map, const char *key);

/**
 * \brief An owned copy: text and bytes are copied, counted objects retained, the rest as it is.
 * \return PEGA_ERROR_UNSUPPORTED for an uncounted tensor, whose memory nobody keeps alive (make it
 *        counted with pega_tensor_from_dlpack()).
 */
PEGA_API pega_status pega_value_retain(const pega_value *value, pega_value *out, pega_error *error);
/** \brief Gives back one reference if the value is counted, and makes it None. Takes NULL. */
PEGA_API void pega_value_release(pega_value *value);

/** \brief Makes an owned string (or bytes) of a copy of `size` bytes. */
PEGA_API pega_status pega_string_create(const char *text, size_t size, pega_value *out,
                                        pega_error *error);
PEGA_API pega_status pega_bytes_create(const void *bytes, size_t size, pega_value *out,
                                       pega_error *error);
/** \brief Makes an owned array of owned copies of `count` values (see pega_value_retain()). */
PEGA_API pega_status pega_array_create(const pega_value *items, int64_t count, pega_value *out,
                                       pega_error *error);
/** \brief Makes an owned map of `count` pairs, in this order. Keys are not compared. */
PEGA_API pega_status pega_map_create(const pega_value *keys, const pega_value *values,
                                     int64_t count, pega_value *out, pega_error *error);

/**
 * \brief Makes an owned PEGA_OBJECT value around something of the host's or of a foreign runtime.
 * \param type_key Name of its type; copied.
 * \param tag Address that tells whose payload this is; see pega_value_payload().
 * \param payload Taken on success. `release(payload)` runs once, on the thread that gives back the
 *        last reference; NULL for nothing to do.
 */
PEGA_API pega_status pega_object_create(const char *type_key, const void *tag, void *payload,
                                        void (*release)(void *payload), pega_value *out,
                                        pega_error *error);
/** \brief Type key of a PEGA_OBJECT value, else the kind's name. Lives as long as the value. */
PEGA_API const char *pega_value_type_key(const pega_value *value);
/** \brief Payload of an object or tensor made with the same tag, or NULL. Borrowed. */
PEGA_API void *pega_value_payload(const pega_value *value, const void *tag);

/**
 * \brief Writes a value as a person would read it ("3", "\"text\"", "float32[2, 3] on cpu:0").
 * \return Bytes of the whole text without NUL, as snprintf; at most `capacity` are written.
 */
PEGA_API size_t pega_value_format(const pega_value *value, char *buffer, size_t capacity);

/* ----------------------------------------------------------------------------------- tensors -- */

/** \brief The most dimensions that a tensor may have. */
#define PEGA_MAX_RANK 32

/** \brief Room that pega_dtype_name() and pega_device_name() ask for. */
#define PEGA_NAME_SIZE 32

/** \brief Writes "float32", "bfloat16", "int8x4", ... into `buffer`, which it returns. */
PEGA_API const char *pega_dtype_name(DLDataType dtype, char buffer[PEGA_NAME_SIZE]);
/** \brief Reads what pega_dtype_name() writes. */
PEGA_API pega_status pega_dtype_parse(const char *name, DLDataType *out, pega_error *error);
/** \brief Writes "cpu:0", "cuda:1", ... into `buffer`, which it returns. */
PEGA_API const char *pega_device_name(DLDevice device, char buffer[PEGA_NAME_SIZE]);
/** \brief Reads what pega_device_name() writes; "cuda" alone is "cuda:0". */
PEGA_API pega_status pega_device_parse(const char *name, DLDevice *out, pega_error *error);

/**
 * \brief Checks that a tensor is one: rank at most PEGA_MAX_RANK, no negative size, a known element
 *        type, sizes and strides whose byte extent fits in int64, memory where there are elements,
 *        and data + byte_offset aligned to the element (a power of two of at most 16 bytes).
 *
 * Reads only the descriptor, never the memory. Every tensor argument of every call passes it.
 */
PEGA_API pega_status pega_tensor_validate(const DLTensor *tensor, pega_error *error);
/** \brief Elements of a valid tensor; 0 for NULL. */
PEGA_API int64_t pega_tensor_num_elements(const DLTensor *tensor);
/** \brief Bytes that the elements of a valid contiguous tensor take; 0 for NULL. */
PEGA_API int64_t pega_tensor_num_bytes(const DLTensor *tensor);
/**
 * \brief Whether a valid tensor is row-major without gaps (sizes of 1 and 0 excuse any stride);
 *        false for NULL.
 */
PEGA_API bool pega_tensor_is_contiguous(const DLTensor *tensor);
/** \brief Address of the first element: data + byte_offset; NULL for NULL. */
PEGA_API void *pega_tensor_data(const DLTensor *tensor);

/**
 * \brief Makes an owned tensor value of a DLPack tensor, zero-copy. Takes `managed`: its deleter
 *        runs once, on whatever thread gives back the last reference.
 */
PEGA_API pega_status pega_tensor_from_dlpack(DLManagedTensor *managed, pega_value *out,
                                             pega_error *error);
/** \brief The same for ABI version 1; a greater major version is refused. */
PEGA_API pega_status pega_tensor_from_dlpack_versioned(DLManagedTensorVersioned *managed,
                                                       pega_value *out, pega_error *error);
/**
 * \brief A DLPack tensor over a counted tensor value, zero-copy; it holds a reference until its
 *        deleter is called. Returns owned. An uncounted tensor is PEGA_ERROR_UNSUPPORTED; a
 *        read-only one has no unversioned form.
 */
PEGA_API pega_status pega_tensor_to_dlpack(const pega_value *tensor, DLManagedTensor **out,
                                           pega_error *error);
PEGA_API pega_status pega_tensor_to_dlpack_versioned(const pega_value *tensor,
                                                     DLManagedTensorVersioned **out,
                                                     pega_error *error);
/**
 * \brief Makes an owned tensor value over memory that `payload` keeps alive.
 * \param view Copied; its shape and strides arrays must live as long as the payload.
 * \param flags DLPack's DLPACK_FLAG_BITMASK_* bits.
 * \param tag, payload, release As for pega_object_create().
 */
PEGA_API pega_status pega_tensor_create(const DLTensor *view, uint64_t flags, const void *tag,
                                        void *payload, void (*release)(void *payload),
                                        pega_value *out, pega_error *error);
/** \brief DLPACK_FLAG_BITMASK_* bits of a counted tensor value; 0 for any other. */
PEGA_API uint64_t pega_tensor_flags(const pega_value *tensor);

/* -------------------------------------------------------------------------------- signatures -- */

/** \brief What a parameter accepts. Numbers are pinned. */
typedef enum pega_type {
  PEGA_TYPE_ANY = 0,
  PEGA_TYPE_NONE = 1,
  PEGA_TYPE_BOOL = 2,
  PEGA_TYPE_INT = 3,     /**< int or uint within [min, max]; a bool is not an integer */
  PEGA_TYPE_FLOAT = 4,   /**< float or int */
  PEGA_TYPE_POINTER = 5, /**< pointer, int >= 0, or uint */
  PEGA_TYPE_STREAM = 6,  /**< as POINTER; 0 is the default stream */
  PEGA_TYPE_DTYPE = 7,
  PEGA_TYPE_DEVICE = 8,
  PEGA_TYPE_STRING = 9,
  PEGA_TYPE_BYTES = 10,
  PEGA_TYPE_TENSOR = 11,
  PEGA_TYPE_FUNCTION = 12,
  PEGA_TYPE_ARRAY = 13,
  PEGA_TYPE_MAP = 14,
  PEGA_TYPE_OBJECT = 15
} pega_type;

/** \brief Name of a parameter type, "int". Static; "unknown" for a number that has none. */
PEGA_API const char *pega_type_name(uint32_t type);

#define PEGA_PARAM_OPTIONAL 1u   /**< None is accepted; at the end it may be left out */
#define PEGA_PARAM_NONNULL 2u    /**< POINTER: 0 is refused */
#define PEGA_PARAM_RANGE 4u      /**< INT: within [min, max], else the whole of int64 */
#define PEGA_PARAM_CONTIGUOUS 8u /**< TENSOR: row-major without gaps */
#define PEGA_PARAM_OUTPUT 16u    /**< TENSOR or POINTER: written by the call; not read-only */

/** \brief One parameter. Zero means "anything" for every field but the name. All text borrowed. */
typedef struct pega_param {
  const char *name;    /**< identifier, unique in the signature */
  const char *doc;     /**< one line: what it is */
  uint32_t type;       /**< a pega_type */
  uint32_t flags;      /**< PEGA_PARAM_* */
  int64_t min;         /**< with PEGA_PARAM_RANGE, inclusive */
  int64_t max;         /**< with PEGA_PARAM_RANGE, inclusive */
  DLDataType dtype;    /**< TENSOR: element type, {0, 0, 0} for any */
  int32_t device_type; /**< TENSOR: a DLDeviceType, 0 for any */
  const char *shape;   /**< TENSOR: "T, HV, 64": numbers are exact, equal names are equal sizes
                            across the whole signature, "_" is any; "" is rank 0, NULL any rank */
  uint32_t alignment;  /**< TENSOR, POINTER: bytes, a power of two; 0 for the element's own */
  uint32_t reserved;   /**< 0 */
  const char *domain;  /**< which values are meaningful, "log gate, <= 0"; shown, not checked */
} pega_param;

#define PEGA_SIGNATURE_SAME_DEVICE 1u /**< all tensor arguments are on one device */

/** \brief A signature, as given; the library keeps a compiled copy. */
typedef struct pega_signature {
  uint32_t struct_size; /**< sizeof(pega_signature) */
  uint32_t param_size;  /**< sizeof(pega_param) */
  const pega_param *params;
  int32_t num_params; /**< at most 64 */
  uint32_t flags;     /**< PEGA_SIGNATURE_* */
  uint32_t result;    /**< a pega_type; shown, not checked */
  uint32_t reserved;  /**< 0 */
} pega_signature;

#define PEGA_SIGNATURE_INIT \
  { (uint32_t)sizeof(pega_signature), (uint32_t)sizeof(pega_param), NULL, 0, 0, PEGA_TYPE_NONE, 0 }

/* --------------------------------------------------------------------------------- functions -- */

/** \brief The longest name of a function, in bytes. */
#define PEGA_MAX_NAME 255

/**
 * \brief What a function does when called.
 *
 * `args` are borrowed and already checked against the signature; where there is one, they are as many
 * as it has parameters, None for what the caller left out. `result` is None on entry; what is
 * put there is owned by the caller. On failure fill `error` (it may be NULL) and return its status;
 * a result set before failing is released by the library. A failure with no text is reported as
 * such, with the function's name.
 */
typedef pega_status (*pega_call)(void *self, const pega_value *args, int32_t num_args,
                                 pega_value *result, pega_error *error);

/** \brief How to make a function. */
typedef struct pega_function_options {
  uint32_t struct_size;            /**< sizeof(pega_function_options) */
  uint32_t reserved;               /**< 0 */
  const char *name;                /**< 1 to PEGA_MAX_NAME bytes without blanks; NULL: anonymous */
  const char *doc;                 /**< what it does; NULL for none; copied */
  const pega_signature *signature; /**< NULL: any arguments pass; copied */
  pega_call call;
  void *self;                  /**< given to call and deleter */
  void (*deleter)(void *self); /**< runs once, with the last reference, on whatever thread */
} pega_function_options;

#define PEGA_FUNCTION_OPTIONS_INIT \
  { (uint32_t)sizeof(pega_function_options), 0, NULL, NULL, NULL, NULL, NULL, NULL }

/**
 * \brief Makes a function. Takes `self` (on failure the deleter has not run).
 * \param out Returns owned; give back with pega_function_release().
 */
PEGA_API pega_status pega_function_create(const pega_function_options *options, pega_function **out,
                                          pega_error *error);
/** \brief Adds a reference and returns the function. Takes NULL. */
PEGA_API pega_function *pega_function_retain(pega_function *function);
/** \brief Gives back a reference. Takes NULL. */
PEGA_API void pega_function_release(pega_function *function);

/**
 * \brief Calls a function: checks count, types, ranges, tensors, then runs it.
 *
 * \param args Borrowed, `num_args` of them; may be NULL when there are none.
 * \param result Receives the owned result, or None on failure; may be NULL to drop it. What it held
 *        before is overwritten, not released.
 * \return PEGA_OK, a status of the check (the text names function, argument, expected and got), or
 *        what the function returned. A failing foreign function or callback is PEGA_ERROR_CALLEE
 *        with its own kind, message, traceback and cause.
 *
 * An error left over from an earlier call is cleared before the function runs. No lock, and no
 * allocation but the callee's.
 */
PEGA_API pega_status pega_function_call(pega_function *function, const pega_value *args,
                                        int32_t num_args, pega_value *result, pega_error *error);

/** \brief Runs only the check of pega_function_call(). */
PEGA_API pega_status pega_function_check(const pega_function *function, const pega_value *args,
                                         int32_t num_args, pega_error *error);

/** \brief Name, "" if anonymous. Lives as long as the function. */
PEGA_API const char *pega_function_name(const pega_function *function);
/** \brief Doc, "" if none. Lives as long as the function. */
PEGA_API const char *pega_function_doc(const pega_function *function);
/** \brief Signature, or NULL if it takes anything. Lives as long as the function. */
PEGA_API const pega_signature *pega_function_signature(const pega_function *function);
/** \brief "name(a: Tensor[float32, (T, 64)], n: int) -> None". Lives as long as the function. */
PEGA_API const char *pega_function_signature_text(const pega_function *function);
/** \brief `self` of a function whose call is `call`, else NULL: for bridges to know their own. */
PEGA_API void *pega_function_self(const pega_function *function, pega_call call);

/* ---------------------------------------------------------------------------------- registry -- */

/** \brief Replace a function of the same name instead of refusing. */
#define PEGA_REGISTER_OVERRIDE 1u

/**
 * \brief Puts a named function into the process's registry, which retains it.
 *
 * A name that is taken is PEGA_ERROR_ALREADY_EXISTS, or replaced with PEGA_REGISTER_OVERRIDE.
 * Whoever holds the old function keeps it; new look-ups find the new one.
 */
PEGA_API pega_status pega_registry_add(pega_function *function, uint32_t flags, pega_error *error);
/** \brief Takes a name out of the registry and gives back its reference. */
PEGA_API pega_status pega_registry_remove(const char *name, pega_error *error);
/**
 * \brief Finds a function. Returns owned. PEGA_ERROR_NOT_FOUND names the nearest.
 *
 * A function that pega_pack_register() put there is made when it is first found: an error is then that of
 * pega_pack_get(), and the function stays registered.
 */
PEGA_API pega_status pega_registry_get(const char *name, pega_function **out, pega_error *error);
/** \brief All names, sorted, as an owned array of strings. */
PEGA_API pega_status pega_registry_list(pega_value *out, pega_error *error);

/* ----------------------------------------------------------------------------------- streams -- */

/**
 * \brief The calling thread's current stream of a device: what functions on tensors launch on.
 *
 * NULL is the default stream. When a bridge has installed a provider, these two go to it, so that
 * engine and foreign code see one current stream.
 * \param previous Receives the stream it replaces; may be NULL.
 */
PEGA_API pega_status pega_stream_set(DLDevice device, void *stream, void **previous,
                                     pega_error *error);
PEGA_API pega_status pega_stream_get(DLDevice device, void **stream, pega_error *error);

/** \brief Where current streams are kept instead of in the library; for bridges. */
typedef struct pega_stream_provider {
  uint32_t struct_size; /**< sizeof(pega_stream_provider) */
  uint32_t reserved;    /**< 0 */
  pega_status (*set)(void *self, DLDevice device, void *stream, void **previous, pega_error *error);
  pega_status (*get)(void *self, DLDevice device, void **stream, pega_error *error);
  void *self;
} pega_stream_provider;

/**
 * \brief Installs a provider, borrowed for the rest of the process; NULL goes back to the own.
 *
 * Streams that a thread has set before are handed over: the calling thread's at once, another's
 * when it next calls pega_stream_set() or pega_stream_get(). One that the provider already has
 * stays.
 */
PEGA_API pega_status pega_stream_set_provider(const pega_stream_provider *provider,
                                              pega_error *error);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGA_PEGA_H_ */
