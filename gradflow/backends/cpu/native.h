/* The calls of a program in C. */
#ifndef GF_NATIVE_H
#define GF_NATIVE_H

#ifdef _WIN32
#define GF_EXPORT __declspec(dllexport)
#else
#define GF_EXPORT __attribute__((visibility("default")))
#endif

typedef union {
  void *pointer;
  long long integer; /* every integer type, by its bits */
  double number;
} gf_value;

/* Compute the items begin to end - 1 of the range of a call. */
typedef void (*gf_function)(const gf_value *values, long long begin, long long end);

typedef struct {
  const char *name;
  gf_function function;
  long long (*items)(const gf_value *values); /* the size of the range */
} gf_entry;

typedef struct {
  gf_function function;
  const gf_value *values;
  long long items;
  long long grain; /* the size of a part is a multiple of this */
  long long part;  /* minimum number of items for a thread; all of them if the call is for one thread */

  /* For splitting by rows: the elements of a row, and of an item. For a gemm: the bytes of an element, and 0. */
  long long per_row, per_item;
  long long (*items_of)(const gf_value *values);

  long long size, first; /* while it runs: items of a part, and parts of the phase before its own */
} gf_call;

/* The values of gemm (kernels/layers/gemm.c). */
enum { GF_GEMM_A = 0, GF_GEMM_OUT = 2, GF_GEMM_ROWS = 5, GF_GEMM_COLUMNS = 6, GF_GEMM_DEPTH = 7, GF_GEMM_VALUES = 8 };

enum { GF_ROW_GRAIN = 16 }; /* a part of rows is a multiple of this */

/* Calls that no thread must wait between (phases.py). */
typedef struct {
  gf_call *calls;
  long long count;
  long long rows;     /* all calls are split by these rows; 0: each call by its items */
  long long part;     /* minimum number of rows for a thread */
  int is_shared;      /* true if it is worth more than one thread */
  int is_worth_waking; /* true if it takes so long that sleeping threads are worth waking */
} gf_phase;

#endif
