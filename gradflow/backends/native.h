/* The calls of a program as C sees them. */
#ifndef GF_NATIVE_H
#define GF_NATIVE_H

typedef union {
  void *pointer;
  long long integer; /* all integer types, by their bits */
  double number;
} gf_value;

typedef void (*gf_function)(const gf_value *values);

typedef struct {
  const char *name;
  gf_function function;
} gf_entry;

typedef struct {
  gf_function function;
  const gf_value *values;
} gf_call;

#endif
