// NCCL for ranks on one machine: each is a process with a simulated device of its own.  A communicator is a file in
// shared memory: what each rank has to say, and two buffers of each, used in turn.  A collective puts its input into
// the rank's buffer, waits until all ranks have done so, and then computes its result from their buffers.
#include "blas.h"
#include "core.h"
#include <atomic>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <random>
#include <sys/mman.h>
#include <unistd.h>
using namespace sim;

enum { NC_OK = 0, NC_CUDA = 1, NC_SYSTEM = 2, NC_INTERNAL = 3, NC_ARGUMENT = 4, NC_USAGE = 5, NC_REMOTE = 6 };
enum { SUM, PROD, MAX, MIN, AVG, REDUCTIONS };
enum { I8, U8, I32, U32, I64, U64, F16, F32, F64, BF16, TYPES };
static const size_t TYPE_SIZE[TYPES] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
static const int MAX_RANKS = 64;
static const size_t BUFFER = (size_t)1 << 30;  // address space: only used pages take memory
typedef struct NcclComm *ncclComm_t;
struct ncclUniqueId { char internal[128]; };
#define NCCL extern "C" int

// What a rank wants; all must want the same.
struct Wish {
  char name[24];
  unsigned long long count;
  int type, reduction, root, in_graph;
};
static std::string text(const Wish &w) {
  char s[200];
  snprintf(s, sizeof s, "%s(count=%llu, type=%d, reduction=%d, root=%d)%s", w.name, w.count, w.type, w.reduction, w.root,
           w.in_graph ? " in a graph" : "");
  return s;
}
struct Slot {
  std::atomic<int> pid, gone;                   // gone: the communicator was destroyed or aborted
  int device;
  std::atomic<unsigned long long> posted;       // number of collectives whose input is in the buffers
  Wish wish[2];
};
struct Shared { std::atomic<int> size, joined; Slot ranks[MAX_RANKS]; };

struct NcclComm {
  int rank, size, device;
  Shared *shared;
  char *buffers;
  std::shared_ptr<Wish> posted;                 // the collective that waits for the other ranks
  unsigned long long done = 0;
  int error = NC_OK;
  bool aborted = false, destroyed = false;
  std::vector<std::weak_ptr<Wish>> captured;    // by graphs, which keep them while they exist
  char *buffer(int of, unsigned long long number) { return buffers + ((size_t)of * 2 + number % 2) * BUFFER; }
};

static double seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}
static double patience() {
  const char *s = getenv("SIMGPU_NCCL_TIMEOUT");
  return s && *s ? atof(s) : 60;
}
// Wait until `done`, with the simulator open to other threads; false after the timeout.
template <class F> static bool wait_for(F done) {
  double end = seconds() + patience();
  for (int i = 0; !done(); i++) {
    if (seconds() > end) return false;
    Unlocked u;
    if (i < 100) sched_yield(); else usleep(100);
  }
  return true;
}

// ---------------------------------------------------------------- arithmetic
template <class A> static A reduced(A a, A b, int how) {
  switch (how) {
    case PROD: return a * b;
    case MAX: return a > b ? a : b;
    case MIN: return a < b ? a : b;
    default: return a + b;
  }
}
static float load(unsigned short x, bool bf) {
  if (!bf) return half_to_float(x);
  unsigned u = (unsigned)x << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
static unsigned short store(float f, bool bf) {
  if (!bf) return float_to_half(f);
  unsigned u;
  memcpy(&u, &f, 4);
  if (f == f) u += 0x7fff + (u >> 16 & 1);
  return u >> 16;
}
// As in a ring, each part of the array is summed from another rank on: the order is nobody's to rely on.
static int nth_rank(int n, size_t i, size_t count, int size) {
  return (int)((n + 1 + i * size / count) % size);
}
template <class T> static void reduce(NcclComm *c, unsigned long long number, T *out, const Wish &w) {
  for (size_t i = 0; i < w.count; i++) {
    T sum = ((T *)c->buffer(nth_rank(0, i, w.count, c->size), number))[i];
    for (int n = 1; n < c->size; n++)
      sum = reduced<T>(sum, ((T *)c->buffer(nth_rank(n, i, w.count, c->size), number))[i], w.reduction);
    out[i] = w.reduction == AVG ? sum / (T)c->size : sum;
  }
}
static void reduce_halves(NcclComm *c, unsigned long long number, unsigned short *out, const Wish &w) {
  bool bf = w.type == BF16;
  for (size_t i = 0; i < w.count; i++) {
    auto value = [&](int n) { return load(((unsigned short *)c->buffer(nth_rank(n, i, w.count, c->size), number))[i], bf); };
    float sum = value(0);
    for (int n = 1; n < c->size; n++) sum = load(store(reduced(sum, value(n), w.reduction), bf), bf);
    out[i] = store(w.reduction == AVG ? sum / c->size : sum, bf);
  }
}
static void reduce_any(NcclComm *c, unsigned long long number, void *out, const Wish &w) {
  switch (w.type) {
    case I8: return reduce(c, number, (signed char *)out, w);
    case U8: return reduce(c, number, (unsigned char *)out, w);
    case I32: return reduce(c, number, (int *)out, w);
    case U32: return reduce(c, number, (unsigned *)out, w);
    case I64: return reduce(c, number, (long long *)out, w);
    case U64: return reduce(c, number, (unsigned long long *)out, w);
    case F32: return reduce(c, number, (float *)out, w);
    case F64: return reduce(c, number, (double *)out, w);
    default: return reduce_halves(c, number, (unsigned short *)out, w);
  }
}

// ---------------------------------------------------------------- collectives
static std::string whereabouts(NcclComm *c, int rank) {
  Slot &s = c->shared->ranks[rank];
  std::string stat = "/proc/" + std::to_string(s.pid) + "/stat";
  char state = 'Z';
  if (FILE *f = fopen(stat.c_str(), "r")) { if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 'Z'; fclose(f); }
  if (state == 'Z') return "is dead";
  if (s.gone) return "has destroyed its communicator";
  return "has not begun it";
}
// Report what is wrong and make the device fail, so that nobody takes the result for one.
static void broken(NcclComm *c, const Wish &w, int error, const std::string &why) {
  say("NCCL: rank %d of %d, collective %llu, %s: %s", c->rank, c->size, c->done + 1, text(w).c_str(), why.c_str());
  c->error = error;
  set_fault(E_LAUNCH_FAILED);
}
// Put the input into this rank's buffer, once.  The other buffer is still read by ranks that are one behind.
static bool post(NcclComm *c, const std::shared_ptr<Wish> &w, const void *in, size_t bytes) {
  if (c->posted == w) return true;
  if (c->posted) { broken(c, *w, NC_USAGE, "another stream's collective of this communicator is under way"); return false; }
  if (c->destroyed) { broken(c, *w, NC_USAGE, "the communicator was destroyed before this ran"); return false; }
  Slot &mine = c->shared->ranks[c->rank];
  if (in) memcpy(c->buffer(c->rank, c->done), in, bytes);
  mine.wish[c->done % 2] = *w;
  mine.posted = c->done + 1;
  c->posted = w;
  return true;
}
static int late_rank(NcclComm *c) {
  for (int r = 0; r < c->size; r++) if (c->shared->ranks[r].posted <= c->done) return r;
  return -1;
}
static bool all_agree(NcclComm *c, const Wish &w) {
  for (int r = 0; r < c->size; r++) {
    const Wish &other = c->shared->ranks[r].wish[c->done % 2];
    if (memcmp(&other, &w, sizeof w)) {
      broken(c, w, NC_INTERNAL, "rank " + std::to_string(r) + " runs " + text(other));
      return false;
    }
  }
  return true;
}
static std::vector<std::function<int()>> &group() { static thread_local std::vector<std::function<int()>> g; return g; }
static thread_local int group_depth = 0;

template <class F> static int collective(const char *name, NcclComm *c, const void *in, size_t in_bytes, void *out,
                                         size_t out_bytes, unsigned long long count, int type, int reduction, int root,
                                         cudaStream_t stream, F finish) {
  auto issue = [=]() -> int {
    Lock l;
    auto refuse = [&](const char *why) { say("%s: %s", name, why); return (int)NC_ARGUMENT; };
    if (!c || c->destroyed) return refuse("no such communicator");
    if (c->error) return c->error;
    if (type < 0 || type >= TYPES || reduction >= REDUCTIONS || root >= c->size) return refuse("unknown type, reduction or root");
    if (current_device() != c->device) return refuse("the communicator's device is not the current one");
    for (auto p : {std::make_pair(in, in_bytes), std::make_pair((const void *)out, out_bytes)}) {
      if (p.second > BUFFER) return refuse("the simulator handles at most 1 GiB");
      if (p.second && p.first && (!on_device(p.first) || !reachable(p.first))) return refuse("not memory of this device");
      if (p.second && p.first && !check_range(p.first, p.second, name)) return NC_ARGUMENT;
    }
    auto wish = std::make_shared<Wish>();
    memset(wish.get(), 0, sizeof *wish);
    snprintf(wish->name, sizeof wish->name, "%s", name);
    wish->count = count; wish->type = type; wish->reduction = reduction; wish->root = root;
    wish->in_graph = capturing(stream);
    if (wish->in_graph) c->captured.push_back(wish);
    Op op;
    op.kind = K_KERNEL;
    op.name = name;
    op.bytes = in_bytes;
    op.ready = [=] { return c->aborted || c->error || !post(c, wish, in, in_bytes) || late_rank(c) < 0; };
    op.run = [=] {
      if (!c->aborted && !c->error && post(c, wish, in, in_bytes)) {
        if (!wait_for([&] { return c->aborted || late_rank(c) < 0; })) {
          int late = late_rank(c);
          broken(c, *wish, NC_REMOTE, "waited too long for rank " + std::to_string(late) + ", which " + whereabouts(c, late));
        }
        if (!c->aborted && !c->error && all_agree(c, *wish)) finish(c, c->done, *wish);
      }
      if (c->posted == wish) { c->posted = nullptr; c->done++; }
    };
    return submit(stream, std::move(op)) ? NC_CUDA : NC_OK;
  };
  if (!group_depth) return issue();
  group().push_back(issue);
  return NC_OK;
}
NCCL ncclAllReduce(const void *in, void *out, size_t n, int type, int how, ncclComm_t c, cudaStream_t s) {
  size_t bytes = type < TYPES ? n * TYPE_SIZE[type] : 0;
  return collective("ncclAllReduce", c, in, bytes, out, bytes, n, type, how, 0, s,
                    [=](NcclComm *c, unsigned long long k, const Wish &w) { reduce_any(c, k, out, w); });
}
NCCL ncclReduce(const void *in, void *out, size_t n, int type, int how, int root, ncclComm_t c, cudaStream_t s) {
  size_t bytes = type < TYPES ? n * TYPE_SIZE[type] : 0;
  return collective("ncclReduce", c, in, bytes, c && c->rank == root ? out : nullptr, bytes, n, type, how, root, s,
                    [=](NcclComm *c, unsigned long long k, const Wish &w) { if (c->rank == root) reduce_any(c, k, out, w); });
}
NCCL ncclBroadcast(const void *in, void *out, size_t n, int type, int root, ncclComm_t c, cudaStream_t s) {
  size_t bytes = type < TYPES ? n * TYPE_SIZE[type] : 0;
  return collective("ncclBroadcast", c, c && c->rank == root ? in : nullptr, bytes, out, bytes, n, type, 0, root, s,
                    [=](NcclComm *c, unsigned long long k, const Wish &) { memcpy(out, c->buffer(root, k), bytes); });
}
NCCL ncclBcast(void *buffer, size_t n, int type, int root, ncclComm_t c, cudaStream_t s) {
  return ncclBroadcast(buffer, buffer, n, type, root, c, s);
}
NCCL ncclAllGather(const void *in, void *out, size_t n, int type, ncclComm_t c, cudaStream_t s) {
  size_t bytes = type < TYPES ? n * TYPE_SIZE[type] : 0;
  return collective("ncclAllGather", c, in, bytes, out, c ? bytes * c->size : 0, n, type, 0, 0, s,
                    [=](NcclComm *c, unsigned long long k, const Wish &) {
                      for (int r = 0; r < c->size; r++) memcpy((char *)out + r * bytes, c->buffer(r, k), bytes);
                    });
}
NCCL ncclGroupStart(void) { group_depth++; return NC_OK; }
NCCL ncclGroupEnd(void) {
  if (!group_depth) return NC_USAGE;
  if (--group_depth) return NC_OK;
  auto calls = std::move(group());
  group().clear();
  for (auto &call : calls) if (int e = call()) return e;
  return NC_OK;
}

// ---------------------------------------------------------------- communicators
NCCL ncclGetVersion(int *v) {
  const char *s = getenv("SIMGPU_NCCL_VERSION");
  *v = s && *s ? atoi(s) : 22703;
  return NC_OK;
}
extern "C" const char *ncclGetErrorString(int e) {
  static const char *const text[] = {"no error", "unhandled cuda error", "unhandled system error", "internal error",
                                     "invalid argument", "invalid usage", "remote process exited or there was a network error"};
  return e >= 0 && e <= NC_REMOTE ? text[e] : "unknown result code";
}
extern "C" const char *ncclGetLastError(ncclComm_t) { return ""; }
NCCL ncclGetUniqueId(ncclUniqueId *id) {
  std::random_device random;
  memset(id, 0, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "simgpu-nccl-%08x%08x%08x%08x", random(), random(), random(), random());
  return NC_OK;
}
static Shared *opened(const char *name, int size) {
  std::string path = std::string(access("/dev/shm", W_OK) ? "/tmp/" : "/dev/shm/") + name;
  int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  size_t bytes = sizeof(Shared) + (size_t)size * 2 * BUFFER;
  void *p = MAP_FAILED;
  if (file >= 0 && !ftruncate(file, bytes)) p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (file >= 0) close(file);
  if (p == MAP_FAILED) { say("NCCL: cannot map %s: %s", path.c_str(), strerror(errno)); return nullptr; }
  return (Shared *)p;
}
static void unlink_file(const char *name) {
  for (const char *folder : {"/dev/shm/", "/tmp/"}) unlink((std::string(folder) + name).c_str());
}
NCCL ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank, void *) {
  Lock l;
  *out = nullptr;
  auto refuse = [&](int e, const std::string &why) { say("ncclCommInitRank, rank %d of %d: %s", rank, size, why.c_str()); return e; };
  if (size < 1 || size > MAX_RANKS || rank < 0 || rank >= size || strncmp(id.internal, "simgpu-nccl-", 12))
    return refuse(NC_ARGUMENT, "invalid size, rank or id");
  if (fault_code()) return NC_CUDA;
  Shared *shared = opened(id.internal, size);
  if (!shared) return NC_SYSTEM;
  int none = 0;
  if (!shared->size.compare_exchange_strong(none, size) && none != size)
    return refuse(NC_ARGUMENT, "another rank says that there are " + std::to_string(none));
  none = 0;
  if (!shared->ranks[rank].pid.compare_exchange_strong(none, getpid())) return refuse(NC_USAGE, "there is one already");
  shared->ranks[rank].device = physical_device(current_device());
  shared->joined++;
  bool all = wait_for([&] { return shared->joined == size; });
  unlink_file(id.internal);
  if (!all) return refuse(NC_SYSTEM, "waited too long: only " + std::to_string(shared->joined) + " ranks have called it");
  for (int r = 0; r < size; r++)
    if (r != rank && shared->ranks[r].device == shared->ranks[rank].device)
      return refuse(NC_USAGE, "rank " + std::to_string(r) + " has the same device");
  *out = new NcclComm{rank, size, current_device(), shared, (char *)(shared + 1), nullptr};
  return NC_OK;
}
NCCL ncclCommInitRank(ncclComm_t *out, int size, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(out, size, id, rank, nullptr);
}
// As NCCL does, wait until no graph has a collective of the communicator.
static int wait_for_graphs(NcclComm *c) {
  auto none = [&] { for (auto &w : c->captured) if (!w.expired()) return false; return true; };
  if (wait_for(none)) return NC_OK;
  say("NCCL: rank %d: waited too long for the end of the graphs that contain collectives of a communicator", c->rank);
  return NC_USAGE;
}
// Communicators are never deleted: work that was queued refers to them.
NCCL ncclCommDestroy(ncclComm_t c) {
  if (!c) return NC_OK;
  Lock l;
  if (c->destroyed) return NC_ARGUMENT;
  int saved = current_device();
  cudaSetDevice(c->device);
  if (!c->aborted) sync_all();  // waits for the collectives
  cudaSetDevice(saved);
  int e = wait_for_graphs(c);
  c->destroyed = true;
  c->shared->ranks[c->rank].gone = 1;
  return e;
}
NCCL ncclCommAbort(ncclComm_t c) {
  if (!c) return NC_OK;
  Lock l;
  c->aborted = c->destroyed = true;  // collectives that wait end, with no result
  c->shared->ranks[c->rank].gone = 1;
  return wait_for_graphs(c);
}
NCCL ncclCommGetAsyncError(ncclComm_t c, int *e) { *e = c->error; return NC_OK; }
NCCL ncclCommCount(ncclComm_t c, int *n) { *n = c->size; return NC_OK; }
NCCL ncclCommCuDevice(ncclComm_t c, int *d) { *d = c->device; return NC_OK; }
NCCL ncclCommUserRank(ncclComm_t c, int *r) { *r = c->rank; return NC_OK; }

#define NOT_SIMULATED(name, args) \
  NCCL name args { say(#name " is not supported by the simulator"); return NC_INTERNAL; }
NOT_SIMULATED(ncclCommInitAll, (ncclComm_t *, int, const int *))
NOT_SIMULATED(ncclCommSplit, (ncclComm_t, int, int, ncclComm_t *, void *))
NOT_SIMULATED(ncclReduceScatter, (const void *, void *, size_t, int, int, ncclComm_t, cudaStream_t))
NOT_SIMULATED(ncclSend, (const void *, size_t, int, int, ncclComm_t, cudaStream_t))
NOT_SIMULATED(ncclRecv, (void *, size_t, int, int, ncclComm_t, cudaStream_t))
