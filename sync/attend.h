/*
 * Tells the master in use which version the mount shows, as long as the mount is there, and listens whether it is about to close (Workspace.Attend). What it
 * says is for people and for `fsyncfs-server fence`; nothing of the mount depends on it. Two threads, as one stream is sent to and listened to at the
 * same time; a master that does not know the method is left alone.
 */
#pragma once

#include "cache/catalog.h"
#include "sync/session.h"

struct attend;

/** Starts the threads. SESSION and CATALOG are borrowed. -ENOMEM, -EAGAIN. */
int attend_new(struct session *session, struct catalog *catalog, struct attend **ret);

/** The catalog has another version. Does not block. Thread-safe; NULL is fine. */
void attend_changed(struct attend *attend);

/** Ends the threads (session_interrupt first, or they wait for the master), frees. NULL is fine. */
void attend_free(struct attend *attend);
