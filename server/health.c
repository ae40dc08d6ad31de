#include "server/health.h"

#include <string.h>

#include "base/lock.h"
#include "base/util.h"

struct health {
        struct mutex lock;
        bool stopping TSA_GUARDED(lock);
        char reason[HEALTH_REASON_MAX] TSA_GUARDED(lock); /* "": it serves */
};

int health_new(struct health **ret)
{
        struct health *health = calloc(1, sizeof(*health));

        if (!health)
                return -ENOMEM;
        mutex_init(&health->lock);
        strcpy(health->reason, "starting");
        *ret = health;
        return 0;
}

void health_free(struct health *health)
{
        if (!health)
                return;
        mutex_release(&health->lock);
        free(health);
}

bool health_set(struct health *health, const char *reason)
{
        bool news;

        mutex_lock(&health->lock);
        news = !health->stopping && strcmp(health->reason, reason ?: "") != 0;
        if (news)
                snprintf(health->reason, sizeof(health->reason), "%s", reason ?: "");
        mutex_unlock(&health->lock);
        return news;
}

void health_stop(struct health *health)
{
        health_set(health, "stopping");
        mutex_lock(&health->lock);
        health->stopping = true;
        mutex_unlock(&health->lock);
}

bool health_get(struct health *health, char reason[HEALTH_REASON_MAX])
{
        mutex_lock(&health->lock);
        strcpy(reason, health->reason);
        mutex_unlock(&health->lock);
        return reason[0] == '\0';
}
