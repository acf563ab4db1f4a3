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
  int wakes_team;  /* true if the call takes so long that sleeping threads are worth waking */
} gf_call;

#endif
