/* SPDX-License-Identifier: MIT
 * sys.h - the operating system's part: clocks, signals as a descriptor, service
 * notification. */
#ifndef EVECC_SYS_H
#define EVECC_SYS_H

#include "evecc/err.h"
#include "evecc/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Monotonic milliseconds (CLOCK_BOOTTIME: a suspended machine does not stop a validity).
 * Read once per wake-up, after the wait. */
uint64_t sys_now_ms(void);

/* Wall clock: seconds, milliseconds since 1970.  For display and for the cloud, never to
 * decide. */
uint64_t sys_unix_s(void);
int64_t sys_unix_ms(void);

/* All clocks at once and the boot they belong to, for what outlives the process. */
void sys_clock(struct state_clock *ret);

/* Random bits for jitter, not for secrets. */
uint32_t sys_random(void);

/* Opens /dev/null as whichever of standard input, output and error is closed: otherwise
 * the next socket would get its number, and the log would be written to it.  Call it
 * first. */
void sys_standard_files(void);

/* Blocks SIGTERM, SIGINT, SIGHUP (in this thread and all it starts) and ignores SIGPIPE
 * and what means nothing here, SIGUSR1 and SIGUSR2;
 * returns a descriptor that becomes readable, or -1 with errno. */
int sys_signals(void);

/* The next signal waiting in FD, 0: none. */
int sys_signal_next(int fd);

/* Tells the service manager STATE ("READY=1", "STOPPING=1", "RELOADING=1", "WATCHDOG=1",
 * "STATUS=..."); does nothing without NOTIFY_SOCKET.  Never blocks. */
void sys_notify(const char *state);

/* Sockets that the service manager has opened for this process (sd_listen_fds(3)): how
 * many, from descriptor SYS_LISTEN_FIRST on, 0: none.  The caller owns them; asked again,
 * and by programs started from here, the answer is 0. */
enum { SYS_LISTEN_FIRST = 3 };
unsigned sys_listen_fds(void);

/* Half the watchdog period of the service manager in milliseconds, 0: none is asked for.
 */
uint64_t sys_watchdog_ms(void);

/* How many of WANTED descriptors this process may have, after raising its limit if that
 * is allowed. */
size_t sys_descriptors(size_t wanted);

/* No core dump and no ptrace of this process: it holds a password and a token. */
void sys_protect_memory(void);

#endif
