/* Counts the bytes of large copies in a process: preloaded, it stands in for libc's memcpy and memmove.

   gcc -O2 -fno-builtin -shared -fPIC -o count_copies.so count_copies.c

   SIGUSR1 writes the bytes copied so far, of copies of 64 KiB and more, into the file that COPIES_FILE names. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const size_t LARGE = 1 << 16;
static atomic_long copied;

static void *copy(void *to, const void *from, size_t count) {
  if (count >= LARGE) atomic_fetch_add(&copied, (long)count);
  void *start = to;
  if (to <= from || (const char *)from + count <= (char *)to) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  } else { /* overlapping: from the end */
    char *last = (char *)to + count - 1;
    const char *source = (const char *)from + count - 1;
    __asm__ volatile("std\n\trep movsb\n\tcld" : "+D"(last), "+S"(source), "+c"(count) : : "memory");
  }
  return start;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) { return copy(to, from, count); }
void *memmove(void *to, const void *from, size_t count) { return copy(to, from, count); }

static void tell(int number) {
  (void)number;
  char text[32];
  int size = snprintf(text, sizeof text, "%ld\n", atomic_load(&copied));
  int file = open(getenv("COPIES_FILE"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (file >= 0 && write(file, text, (size_t)size) == size) close(file);
}

__attribute__((constructor)) static void begin(void) {
  if (getenv("COPIES_FILE")) signal(SIGUSR1, tell);
}
