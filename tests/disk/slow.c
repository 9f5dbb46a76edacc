/* Preloaded into a process, makes the disk below a directory slow: every write and every sync waits its turn at one
 * queue, as at the head of a single disk, for all processes that share the control file.
 *
 * SLOW_DISK_DIR: the directory; SLOW_DISK_CONTROL: the control file, see struct disk and tests/disk/__init__.py.
 * The queue is an instant up to which the disk is busy, moved on by compare-and-swap: nothing is held by a process
 * that is killed meanwhile.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_US 5000000 /* nobody waits longer for one access, however long the queue is */

struct disk {
  _Atomic int64_t access_us;       /* of each write; 0 = the disk is quick */
  _Atomic int64_t bytes_per_s;     /* 0 = as many as one likes */
  _Atomic int64_t sync_us;         /* of each fsync and fdatasync */
  _Atomic int64_t busy_until_us;   /* monotonic clock */
  _Atomic int64_t writes, syncs;   /* that were slowed down */
  _Atomic int64_t waited_us;       /* by all of them together */
};

static struct disk *disk;
static char folder[PATH_MAX];
static size_t folder_length;

__attribute__((constructor)) static void begin(void) {
  const char *control = getenv("SLOW_DISK_CONTROL"), *below = getenv("SLOW_DISK_DIR");
  if (control == NULL || below == NULL || realpath(below, folder) == NULL) return;
  folder_length = strlen(folder);
  int file = open(control, O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  void *found = mmap(NULL, sizeof(struct disk), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (found != MAP_FAILED) disk = found;
}

static int64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int on_disk(int file) {
  struct stat about;
  if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) return 0;
  char link[40], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path);
  return length > (ssize_t)folder_length && memcmp(path, folder, folder_length) == 0 && path[folder_length] == '/';
}

static void take_time(int file, int64_t bytes, int sync) {
  if (disk == NULL) return;
  int64_t cost = sync ? disk->sync_us : disk->access_us;
  if (cost == 0) return;
  int before = errno;
  if (on_disk(file)) {
    int64_t rate = disk->bytes_per_s;
    if (!sync && rate > 0) cost += bytes * 1000000 / rate;
    int64_t now = now_us(), was = disk->busy_until_us, until;
    do {
      until = (was > now ? was : now) + cost;
      if (until > now + LONGEST_US) until = now + LONGEST_US;
    } while (!atomic_compare_exchange_weak(&disk->busy_until_us, &was, until));
    atomic_fetch_add(sync ? &disk->syncs : &disk->writes, 1);
    atomic_fetch_add(&disk->waited_us, until - now);
    struct timespec at = {until / 1000000, until % 1000000 * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
    }
  }
  errno = before;
}

#define REAL(kind, name, ...)                                  \
  static kind (*real)(__VA_ARGS__);                            \
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, #name);

static int64_t size_of(const struct iovec *parts, int count) {
  int64_t bytes = 0;
  for (int n = 0; n < count; n++) bytes += (int64_t)parts[n].iov_len;
  return bytes;
}

ssize_t write(int file, const void *data, size_t bytes) {
  REAL(ssize_t, write, int, const void *, size_t)
  take_time(file, (int64_t)bytes, 0);
  return real(file, data, bytes);
}

ssize_t pwrite(int file, const void *data, size_t bytes, off_t at) {
  REAL(ssize_t, pwrite, int, const void *, size_t, off_t)
  take_time(file, (int64_t)bytes, 0);
  return real(file, data, bytes, at);
}

ssize_t pwrite64(int file, const void *data, size_t bytes, off64_t at) {
  REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)
  take_time(file, (int64_t)bytes, 0);
  return real(file, data, bytes, at);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
  REAL(ssize_t, writev, int, const struct iovec *, int)
  take_time(file, size_of(parts, count), 0);
  return real(file, parts, count);
}

int fsync(int file) {
  REAL(int, fsync, int)
  take_time(file, 0, 1);
  return real(file);
}

int fdatasync(int file) {
  REAL(int, fdatasync, int)
  take_time(file, 0, 1);
  return real(file);
}
