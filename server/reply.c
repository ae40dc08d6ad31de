#include "server/reply.h"

#include <string.h>

#include "base/path.h"

enum rpc_code reply_code(int error)
{
        switch (-error) {
        case 0:
                return RPC_OK;
        case EINVAL:
        case ENAMETOOLONG:
                return RPC_INVALID_ARGUMENT;
        case ENOENT:
        case ENOTDIR:
        case ELOOP:
        case EXDEV:
                return RPC_NOT_FOUND;
        case EACCES:
        case EPERM:
                return RPC_PERMISSION_DENIED;
        case ENOMEM:
        case EMFILE:
        case ENFILE:
                return RPC_RESOURCE_EXHAUSTED;
        case ECANCELED:
                return RPC_UNAVAILABLE;
        default:
                return RPC_INTERNAL;
        }
}

enum log_level reply_level(int error)
{
        enum rpc_code code = reply_code(error);

        return code == RPC_INTERNAL || code == RPC_RESOURCE_EXHAUSTED || code == RPC_PERMISSION_DENIED
                       ? LOG_LEVEL_WARNING
                       : LOG_LEVEL_INFO;
}

void reply_explain(const struct workspace_root *root, const char *spider, const char *path, int error,
                   char buf[REPLY_MAX])
{
        enum rpc_code code = reply_code(error);

        if (code == RPC_INVALID_ARGUMENT && path_check_name(spider, strlen(spider)) < 0)
                snprintf(buf, REPLY_MAX, "'%.80s' cannot be a spider's name", spider);
        else if (code == RPC_INVALID_ARGUMENT)
                snprintf(buf, REPLY_MAX, "not a path within a workspace: '%.160s'", path);
        else if (code == RPC_NOT_FOUND && !workspace_has_spider(root, spider))
                snprintf(buf, REPLY_MAX, "no spider '%.80s' on this master", spider);
        else if (code == RPC_NOT_FOUND)
                snprintf(buf, REPLY_MAX, "no '%.120s' in spider '%.80s'", path, spider);
        else if (code == RPC_UNAVAILABLE)
                snprintf(buf, REPLY_MAX, "this master is shutting down");
        else
                snprintf(buf, REPLY_MAX, "'%.120s' in spider '%.60s': %s", path, spider, strerror(-error));
        if (path_is_utf8(buf, strlen(buf)))
                return;
        for (char *p = buf; *p; p++)
                if ((unsigned char)*p >= 0x80)
                        *p = '?';
}
