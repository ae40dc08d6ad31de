/*
 * One call of StreamFileScan or SyncFiles: what service_sync.c (its life), sync_own.c (answers to our own workers) and sync_stock.c (to stock
 * ones) share.
 */
#pragma once

#include <stdatomic.h>

#include "server/asking.h"
#include "server/master.h"
#include "server/scan_batch.h"
#include "server/sync_request.h"
#include "server/transfer.h"

/* Owned by its event thread, but for what `asking` and `stock_request` say. Freed when neither the call nor a question it asked needs it. */
struct sync_call {
        atomic_uint refs;
        struct rpc_call *call; /* referenced */
        struct master *master;
        struct worker *worker;
        bool many; /* SyncFiles: the next request may follow */

        bool active; /* there is a request, not yet answered to its end: */
        struct sync_request request;
        struct asking asking;
        bool sending;     /* a message is on its way: nothing else can be sent until it is taken */
        bool complete;    /* it is the last of its request */
        bool parked;      /* woken now and then, to tell the worker that there is somebody */
        int64_t spoke_ns; /* when it last said anything, or began to wait */
        struct parked_call parked_call;

        /* sync_own.c */
        struct transfer transfer; /* has a spool once it is known what to send */
        const char *reason;       /* why everything is listed; NULL: it is not */
        bool asked;               /* the version is as new as the request wants it */
        bool too_old;             /* the journal does not reach back to the worker's version */

        /* sync_stock.c */
        struct stock_request stock_request;
        bool stock_pending; /* asked for */
        atomic_bool stock_answered;
        int stock_error;
        struct stock_view *stock_view;     /* referenced */
        struct stock_reader *stock_reader; /* owned */
        char *folder;                      /* owned; absolute path */
        size_t sent;                       /* entries */
};

void sync_call_ref(struct sync_call *s);
void sync_call_unref(struct sync_call *s);

/** Asks for a view of the request's workspace. An error is told to the worker. */
void sync_call_ask(struct sync_call *s, enum versions_freshness freshness, int64_t max_age_ms);

/** The request fails: says so as its dialect wants it. */
void sync_call_fail(struct sync_call *s, int error);

/** Sends the LEN bytes at DATA (malloc'ed, taken over; NULL if LEN is 0). LAST: nothing follows in answer to this request. */
void sync_call_send(struct sync_call *s, uint8_t *data, size_t len, bool last);

/** From now on, or no longer, woken now and then. */
void sync_call_park(struct sync_call *s);
void sync_call_unpark(struct sync_call *s);

/* The two dialects. Nothing is on its way when these are called. */

/** A request has come, and was checked. */
void sync_own_begin(struct sync_call *s);
void sync_stock_begin(struct sync_call *s);

/** The view that was asked for has come, in `asking`, or an error. */
void sync_own_answered(struct sync_call *s);
void sync_stock_answered(struct sync_call *s);

/** Sends what is next, if it is there. WOKEN: nothing may have come for a while. */
void sync_own_step(struct sync_call *s, bool woken);
void sync_stock_step(struct sync_call *s);

/** The answer is out. */
void sync_own_end(struct sync_call *s);

/** Releases what the dialect holds; fine at any time. */
void sync_own_clear(struct sync_call *s);
void sync_stock_clear(struct sync_call *s);

/** An error, as a stock master tells it. */
void sync_stock_fail(struct sync_call *s, const char *text);
