"""C libraries that change what system calls do, compiled by the tests and preloaded into another process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# When the file $STALE_FLAG appears, each descriptor that was opened before on a path with $STALE_MATCH fails
# with $STALE_ERRNO for good; descriptors opened later work. So behave NFS after a new export, and FUSE after
# a new mount.
STALE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
static char state[4096]; static int done;
static int code(){ char *e = getenv("STALE_ERRNO"); return e ? atoi(e) : ESTALE; }
static void look(){
  if (done) return;
  char *flag = getenv("STALE_FLAG");
  if (flag && !access(flag, F_OK)) { done = 1; for (int i = 3; i < 4096; i++) if (state[i] == 1) state[i] = 2; }
}
#define REAL(ret, name, ...) static ret (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)
static int opened(int fd, const char *path){
  char *match = getenv("STALE_MATCH");
  if (fd >= 0 && fd < 4096) state[fd] = match && strstr(path, match);
  return fd;
}
int open(const char *p, int flags, ...){
  va_list a; va_start(a, flags); int mode = va_arg(a, int); va_end(a);
  REAL(int, "open", const char *, int, ...); look(); return opened(real(p, flags, mode), p);
}
int open64(const char *p, int flags, ...){
  va_list a; va_start(a, flags); int mode = va_arg(a, int); va_end(a);
  REAL(int, "open64", const char *, int, ...); look(); return opened(real(p, flags, mode), p);
}
int close(int fd){ REAL(int, "close", int); if (fd >= 0 && fd < 4096) state[fd] = 0; return real(fd); }
#define DEAD(fd) (look(), (fd) >= 0 && (fd) < 4096 && state[fd] == 2)
#define CHECK(fd) if (DEAD(fd)) { errno = code(); return -1; }
int flock(int fd, int op){ REAL(int, "flock", int, int); CHECK(fd) return real(fd, op); }
ssize_t write(int fd, const void *b, size_t n){ REAL(ssize_t, "write", int, const void *, size_t); CHECK(fd) return real(fd, b, n); }
ssize_t pread64(int fd, void *b, size_t n, off64_t o){ REAL(ssize_t, "pread64", int, void *, size_t, off64_t); CHECK(fd) return real(fd, b, n, o); }
ssize_t pread(int fd, void *b, size_t n, off_t o){ REAL(ssize_t, "pread", int, void *, size_t, off_t); CHECK(fd) return real(fd, b, n, o); }
int fsync(int fd){ REAL(int, "fsync", int); CHECK(fd) return real(fd); }
int fstat(int fd, struct stat *s){ REAL(int, "fstat", int, struct stat *); CHECK(fd) return real(fd, s); }
int fstat64(int fd, struct stat64 *s){ REAL(int, "fstat64", int, struct stat64 *); CHECK(fd) return real(fd, s); }
int ftruncate64(int fd, off64_t n){ REAL(int, "ftruncate64", int, off64_t); CHECK(fd) return real(fd, n); }
"""

# flock() as the Linux client of NFS does it: an exclusive lock needs a descriptor that is open for writing.
NFS_LOCKS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
int flock(int fd, int op){
  static int (*real)(int, int); if (!real) real = dlsym(RTLD_NEXT, "flock");
  int mode = fcntl(fd, F_GETFL) & O_ACCMODE, kind = op & ~LOCK_NB;
  if ((kind == LOCK_EX && mode == O_RDONLY) || (kind == LOCK_SH && mode == O_WRONLY)) { errno = EBADF; return -1; }
  return real(fd, op);
}
"""


def library(source: str, folder: Path) -> Path:
    """Compile a library, or skip the test where there is no compiler or nothing can be preloaded."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and Linux's LD_PRELOAD")
    (folder / "shim.c").write_text(source)
    made = folder / "shim.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(made), str(folder / "shim.c"), "-ldl"],
        check=True,
        capture_output=True,
    )
    return made
