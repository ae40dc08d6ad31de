/*
 * A process of a few kilobytes that ends the kernel's connection if the daemon dies without a word. It is needed because of what is pushed into
 * the page cache (fs/pagecache.c): a thread that does so may be waiting, in the kernel and beyond any signal, for a page that only the daemon could give. While it
 * waits the dead daemon's descriptors stay open, the kernel takes the connection for a living one, and no task that reads would ever be answered.
 */
#pragma once

#include <sys/types.h>

/**
 * Starts it for the mount that will be at TARGET (absolute). From the main thread, before there is anything in this process that a child must not
 * keep open. The process id, or a negative errno.
 */
pid_t watchdog_start(const char *target);

/** The daemon ends in good order: nothing is to be watched any more. 0 is fine. */
void watchdog_stop(pid_t pid);
