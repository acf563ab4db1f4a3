/* The calls of a program as C sees them. */
#ifndef GF_NATIVE_H
#define GF_NATIVE_H

typedef union {
  void *pointer;
  long long integer; /* all integer types, by their bits */
  double number;
} gf_value;

/* Does the items begin to end - 1 of a call's range. */
typedef void (*gf_function)(const gf_value *values, long long begin, long long end);

typedef struct {
  const char *name;
  gf_function function;
  long long (*items)(const gf_value *values); /* how many the range has */
} gf_entry;

typedef struct {
  gf_function function;
  const gf_value *values;
  long long items;
  long long grain; /* a part of the range is a multiple of this */
  long long part;  /* items that a thread should do at least; all of them, if the call is for one thread */
  int wakes_team;  /* whether it takes so long that threads which sleep are worth waking */
} gf_call;

#endif
