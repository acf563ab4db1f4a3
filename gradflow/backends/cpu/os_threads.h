/* The operating system's threads, as far as team.c needs them: Windows' own or POSIX's. */
#ifndef GF_OS_THREADS_H
#define GF_OS_THREADS_H

#define GF_STACK_BYTES (1 << 20) /* more than any kernel or BLAS uses; musl's default is an eighth of it */

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

typedef SRWLOCK gf_mutex;
typedef CONDITION_VARIABLE gf_condition;
#define GF_MUTEX_INITIALIZER SRWLOCK_INIT
#define GF_CONDITION_INITIALIZER CONDITION_VARIABLE_INIT
#define GF_THREAD_FUNCTION(name, argument) static DWORD WINAPI name(void *argument)

static inline void gf_lock(gf_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline void gf_unlock(gf_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void gf_wait(gf_condition *condition, gf_mutex *mutex) {
  SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}
static inline void gf_wake_all(gf_condition *condition) { WakeAllConditionVariable(condition); }
static inline void gf_yield(void) { SwitchToThread(); }

static inline double gf_seconds(void) {
  LARGE_INTEGER now, per_second;
  QueryPerformanceCounter(&now);
  QueryPerformanceFrequency(&per_second);
  return (double)now.QuadPart / (double)per_second.QuadPart;
}

/* Start a thread that nobody joins; 0 on failure. */
static inline int gf_start_thread(DWORD(WINAPI *function)(void *), void *argument) {
  const HANDLE thread = CreateThread(0, GF_STACK_BYTES, function, argument, STACK_SIZE_PARAM_IS_A_RESERVATION, 0);
  return thread && CloseHandle(thread);
}

/* Windows does not fork. */
static inline int gf_call_in_forked_children(void (*function)(void)) { return (void)function, 1; }

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

typedef pthread_mutex_t gf_mutex;
typedef pthread_cond_t gf_condition;
#define GF_MUTEX_INITIALIZER PTHREAD_MUTEX_INITIALIZER
#define GF_CONDITION_INITIALIZER PTHREAD_COND_INITIALIZER
#define GF_THREAD_FUNCTION(name, argument) static void *name(void *argument)

static inline void gf_lock(gf_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void gf_unlock(gf_mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void gf_wait(gf_condition *condition, gf_mutex *mutex) { pthread_cond_wait(condition, mutex); }
static inline void gf_wake_all(gf_condition *condition) { pthread_cond_broadcast(condition); }
static inline void gf_yield(void) { sched_yield(); }

static inline double gf_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Start a thread that nobody joins; 0 on failure. */
static inline int gf_start_thread(void *(*function)(void *), void *argument) {
  sigset_t all, previous;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &previous); /* signals go to the threads of the program */
  pthread_t thread;
  pthread_attr_t attributes;
  int is_started = 0;
  if (pthread_attr_init(&attributes) == 0) {
    pthread_attr_setstacksize(&attributes, GF_STACK_BYTES);
    is_started = pthread_create(&thread, &attributes, function, argument) == 0;
    if (is_started) pthread_detach(thread);
    pthread_attr_destroy(&attributes);
  }
  pthread_sigmask(SIG_SETMASK, &previous, 0);
  return is_started;
}

/* 0 on failure. */
static inline int gf_call_in_forked_children(void (*function)(void)) { return pthread_atfork(0, 0, function) == 0; }

#endif

#endif
