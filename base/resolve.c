#include "base/resolve.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include "base/lock.h"
#include "base/util.h"

#define UNANSWERED_MAX 8 /* threads that nobody waits for any more may stay as long as the resolver likes */

/* A question. Freed by the last of the two that know it: who asks, and the thread. */
struct question {
        struct mutex lock;
        struct condition answered;
        unsigned refs TSA_GUARDED(lock);
        bool is_answered TSA_GUARDED(lock);
        int code TSA_GUARDED(lock), error TSA_GUARDED(lock); /* getaddrinfo's, and errno */
        struct addrinfo *list TSA_GUARDED(lock);             /* owned */
        struct addrinfo hints;
        const char *port; /* behind the host */
        char host[];
};

static atomic_uint n_questions;

static struct question *question_new(const char *host, const char *port, const struct addrinfo *hints)
{
        size_t host_len = strlen(host) + 1, port_len = strlen(port) + 1;
        struct question *q = calloc(1, sizeof(*q) + host_len + port_len);

        if (!q)
                return NULL;
        mutex_init(&q->lock);
        condition_init(&q->answered);
        q->refs = 1;
        q->hints = *hints;
        memcpy(q->host, host, host_len);
        q->port = memcpy(q->host + host_len, port, port_len);
        return q;
}

static void unlock_and_unref(struct question *q) TSA_RELEASES(q->lock)
{
        bool last = --q->refs == 0;

        mutex_unlock(&q->lock);
        if (!last)
                return;
        if (q->list)
                freeaddrinfo(q->list);
        condition_release(&q->answered);
        mutex_release(&q->lock);
        free(q);
}

static void *question_main(void *arg)
{
        struct question *q = arg;
        struct addrinfo *list = NULL;
        int code, error;

        thread_name("resolve");
        code = getaddrinfo(q->host, q->port, &q->hints, &list);
        error = errno;
        atomic_fetch_sub(&n_questions, 1);
        mutex_lock(&q->lock);
        q->is_answered = true;
        q->code = code;
        q->error = error;
        q->list = code == 0 ? list : NULL;
        condition_signal(&q->answered);
        unlock_and_unref(q);
        return NULL;
}

static int start(struct question *q)
{
        pthread_t thread;
        int r;

        if (atomic_fetch_add(&n_questions, 1) >= UNANSWERED_MAX) {
                atomic_fetch_sub(&n_questions, 1);
                return EAGAIN;
        }
        q->refs++; /* the thread's */
        r = pthread_create(&thread, NULL, question_main, q);
        if (r == 0) {
                pthread_detach(thread);
        } else {
                q->refs--;
                atomic_fetch_sub(&n_questions, 1);
        }
        return r;
}

static int wait_for(struct question *q, int64_t deadline_ns, struct addrinfo **ret)
{
        int code, error = ETIMEDOUT;

        mutex_lock(&q->lock);
        while (!q->is_answered && condition_wait_until(&q->answered, &q->lock, deadline_ns) == 0)
                ;
        code = q->is_answered ? q->code : EAI_SYSTEM;
        if (q->is_answered) {
                error = q->error;
                *ret = TAKE_PTR(q->list);
        }
        unlock_and_unref(q);
        errno = error;
        return code;
}

int resolve_host(const char *host, const char *port, int flags, int64_t deadline_ns, struct addrinfo **ret)
{
        struct addrinfo hints = { .ai_flags = AI_NUMERICSERV | AI_NUMERICHOST | flags,
                                  .ai_socktype = SOCK_STREAM };
        struct question *q;
        int error;

        /* An address asks nobody. */
        if (getaddrinfo(host, port, &hints, ret) == 0)
                return 0;
        hints.ai_flags = AI_NUMERICSERV | flags;
        q = question_new(host, port, &hints);
        if (!q)
                return EAI_MEMORY;
        error = start(q);
        if (error == 0)
                return wait_for(q, deadline_ns, ret);
        mutex_lock(&q->lock);
        unlock_and_unref(q);
        errno = error;
        return EAI_SYSTEM;
}

const char *resolve_error(int code)
{
        if (code != EAI_SYSTEM)
                return gai_strerror(code);
        return errno == ETIMEDOUT ? "the name server does not answer" : strerror(errno);
}
