#include "cli/doctor.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "base/log.h"
#include "cache/place.h"
#include "cache/store.h"
#include "cli/command.h"
#include "cli/mounts.h"
#include "cli/remote_call.h"
#include "fs/control.h"
#include "fs/feature.h"
#include "fs/status.h"

#define OVERLAYFS_MAGIC 0x794c7630ul
#define FREE_LEAST      ((uint64_t)1 << 30)
#define FILES_LEAST     4096

static const char *const verdict_names[VERDICTS] = { "ok", "warn", "fail" };

/* ---- the list ---- */

void doctor_say(struct doctor *doctor, enum verdict verdict, const char *name, const char *advice,
                const char *format, ...)
{
        char text[600];
        json_t *check;
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        log_make_printable(text);
        doctor->counts[verdict]++;
        check = json_pack("{s:s, s:s, s:o}", "name", name, "state", verdict_names[verdict], "text",
                          status_path_json(text));
        if (check && advice && verdict != VERDICT_OK)
                json_object_set_new(check, "advice", json_string(advice));
        json_array_append_new(doctor->checks, check);
}

static const char *string(const json_t *object, const char *key)
{
        return json_string_value(json_object_get(object, key));
}

void doctor_print(const struct doctor *doctor, FILE *out, bool colour)
{
        static const char *const shown[VERDICTS] = { "ok", "warn", "FAIL" };
        static const char *const colours[VERDICTS] = { "\033[32m", "\033[33m", "\033[1;31m" };
        const json_t *check;
        size_t i;

        json_array_foreach(doctor->checks, i, check)
        {
                const char *state = string(check, "state"), *advice = string(check, "advice");
                enum verdict v = VERDICT_OK;

                while (v + 1 < VERDICTS && strcmp(state, verdict_names[v]) != 0)
                        v++;
                fprintf(out, "%s%-4s%s  %s: %s\n", colour ? colours[v] : "", shown[v],
                        colour ? "\033[0m" : "", string(check, "name"), string(check, "text"));
                if (advice)
                        fprintf(out, "      -> %s\n", advice);
        }
}

/* ---- this machine ---- */

static void look_at_kernel(struct doctor *d)
{
        struct utsname name;
        int major = 0, minor = 0;

        uname(&name);
        sscanf(name.release, "%d.%d", &major, &minor);
        if (major < 4 || (major == 4 && minor < 20))
                doctor_say(d, VERDICT_FAIL, "kernel", "Linux 5.4 or newer; 6.9 for everything", "Linux %s",
                           name.release);
        else if (major < 6 || (major == 6 && minor < 9))
                doctor_say(d, VERDICT_WARN, "kernel", "Linux 6.9 has both",
                           "Linux %s: no passthrough of large files, and a daemon's death ends its mount",
                           name.release);
        else
                doctor_say(d, VERDICT_OK, "kernel", NULL, "Linux %s", name.release);
}

static void look_at_device(struct doctor *d)
{
        _cleanup_close_ int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

        if (fd >= 0)
                doctor_say(d, VERDICT_OK, "/dev/fuse", NULL, "it can be opened");
        else
                doctor_say(d, VERDICT_FAIL, "/dev/fuse",
                           errno == EACCES || errno == EPERM
                                   ? "in a container it has to be let in (--device /dev/fuse)"
                                   : "modprobe fuse",
                           "%s", strerror(errno));
}

/* Where the shell would find NAME; NULL: nowhere. To be freed. */
static char *find_program(const char *name)
{
        const char *dir = getenv("PATH") ?: "/usr/bin:/bin";

        while (*dir) {
                size_t len = strcspn(dir, ":");
                char *path;

                if (asprintf(&path, "%.*s/%s", (int)len, dir, name) < 0)
                        return NULL;
                if (access(path, X_OK) == 0)
                        return path;
                free(path);
                dir += len + (dir[len] == ':');
        }
        return NULL;
}

static void look_at_fusermount(struct doctor *d)
{
        _cleanup_free_ char *path = find_program("fusermount3");
        struct stat st;

        if (geteuid() == 0)
                doctor_say(d, VERDICT_OK, "fusermount3", NULL, "%s; root does without", path ?: "not there");
        else if (!path)
                doctor_say(d, VERDICT_FAIL, "fusermount3", "install the package fuse3",
                           "not there, and only root can do without");
        else if (stat(path, &st) == 0 && (st.st_uid != 0 || !(st.st_mode & S_ISUID)))
                doctor_say(d, VERDICT_FAIL, "fusermount3", "it has to belong to root, with the setuid bit",
                           "'%s' cannot mount", path);
        else
                doctor_say(d, VERDICT_OK, "fusermount3", NULL, "%s", path);
}

static void look_at_helper(struct doctor *d)
{
        static const char helper[] = "/sbin/mount.fsyncfs";
        struct stat theirs, ours;

        if (stat(helper, &theirs) < 0 || access(helper, X_OK) < 0)
                doctor_say(d, VERDICT_WARN, "mount helper", "meson install; until then use fsyncfs mount",
                           "no '%s': mount -t fsyncfs and fstab do not work", helper);
        else if (stat("/proc/self/exe", &ours) == 0 &&
                 (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino))
                doctor_say(d, VERDICT_WARN, "mount helper", "install one of both",
                           "'%s' is another program than this fsyncfs", helper);
        else
                doctor_say(d, VERDICT_OK, "mount helper", NULL, "'%s'", helper);
}

static void look_at_limits(struct doctor *d)
{
        struct rlimit limit = { 0 };

        getrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_max < FILES_LEAST)
                doctor_say(d, VERDICT_WARN, "open files", "ulimit -Hn, LimitNOFILE= of the unit",
                           "%lu at most: fewer contents are on their way at a time",
                           (unsigned long)limit.rlim_max);
        else
                doctor_say(d, VERDICT_OK, "open files", NULL, "%lu at most", (unsigned long)limit.rlim_max);
}

/* Certificates are judged by it, and times of files are compared. */
static void look_at_clock(struct doctor *d)
{
        struct timex t = { 0 };

        if (adjtimex(&t) == TIME_ERROR || (t.status & STA_UNSYNC))
                doctor_say(d, VERDICT_WARN, "clock",
                           "chrony or systemd-timesyncd; in a container the host sees to it",
                           "nothing keeps it in step, as far as the kernel knows");
        else
                doctor_say(d, VERDICT_OK, "clock", NULL, "in step, to %ld us", t.maxerror);
}

/* ---- the cache ---- */

/* The nearest folder above PATH that is there. To be freed. */
static char *find_existing(const char *path)
{
        char *copy = strdup(path);

        while (copy && access(copy, F_OK) < 0) {
                char *slash = strrchr(copy, '/');

                if (!slash || slash == copy)
                        break;
                *slash = '\0';
        }
        return copy;
}

static void look_at_room(struct doctor *d, const char *dir)
{
        struct statvfs st;
        struct statfs fs;
        char room[32], size[32];
        uint64_t bytes;

        if (statvfs(dir, &st) < 0 || statfs(dir, &fs) < 0)
                return;
        bytes = (uint64_t)st.f_bavail * st.f_frsize;
        format_bytes(bytes, room);
        format_bytes((uint64_t)st.f_blocks * st.f_frsize, size);
        if (bytes < FREE_LEAST)
                doctor_say(d, VERDICT_WARN, "room in the cache",
                           "make room, or choose another disk with cache=", "%s of %s free", room, size);
        else
                doctor_say(d, VERDICT_OK, "room in the cache", NULL, "%s of %s free", room, size);
        if ((unsigned long)fs.f_type == OVERLAYFS_MAGIC)
                doctor_say(d, VERDICT_WARN, "cache's file system", "a folder on a disk of its own (a volume)",
                           "overlayfs: no passthrough of large files");
}

static void look_at_cache(struct doctor *d, const char *dir)
{
        _cleanup_free_ char *there = find_existing(dir);
        const char *kind;
        struct store *store;
        int r = place_check(dir, &kind);

        if (r == -EREMOTE)
                doctor_say(d, VERDICT_FAIL, "cache folder", "choose a local one with cache=", "'%s' is on %s",
                           dir, kind);
        else if (access(dir, F_OK) == 0) {
                r = store_open(dir, &store);
                if (r < 0)
                        doctor_say(d, VERDICT_FAIL, "cache folder", "choose another with cache=", "'%s': %s",
                                   dir, strerror(-r));
                else
                        doctor_say(d, VERDICT_OK, "cache folder", NULL, "'%s'", dir);
                if (r == 0)
                        store_free(store);
        } else if (there && access(there, W_OK | X_OK) < 0) {
                doctor_say(d, VERDICT_FAIL, "cache folder",
                           "choose another with cache=", "'%s' is not there and cannot be made: '%s': %s",
                           dir, there, strerror(errno));
        } else {
                doctor_say(d, VERDICT_OK, "cache folder", NULL, "'%s' is not there yet, and can be made",
                           dir);
        }
        if (there)
                look_at_room(d, there);
}

/* ---- what is mounted ---- */

static void look_at_mount(struct doctor *d, const char *target)
{
        struct failure failure = { 0 };
        char name[300];
        json_t *counters;
        int r = control_ask(target, "counters", &counters, &failure);

        snprintf(name, sizeof(name), "mount %.250s", target);
        log_make_printable(name);
        if (r == -EINVAL) {
                doctor_say(d, VERDICT_WARN, name, "fsyncfs upgrade", "%s", failure_text(&failure, r));
                return;
        }
        if (r < 0) {
                doctor_say(d, r == -EACCES || r == -ENOENT ? VERDICT_WARN : VERDICT_FAIL, name,
                           "the log says why; umount it, then mount it again", "%s",
                           failure_text(&failure, r));
                return;
        }
        if (strcmp(string(counters, "state") ?: "", "offline") == 0)
                doctor_say(d, VERDICT_WARN, name, "fsyncfs status says which master, and why",
                           "%s: no master answers", string(counters, "source") ?: "?");
        else
                doctor_say(d, VERDICT_OK, name, NULL, "%s, %s", string(counters, "source") ?: "?",
                           string(counters, "state") ?: "?");
        json_decref(counters);
}

static void look_at_mounts(struct doctor *d)
{
        struct mounts mounts;

        if (mounts_get(NULL, &mounts) < 0)
                return;
        for (size_t i = 0; i < mounts.n; i++)
                look_at_mount(d, mounts.targets[i]);
        mounts_release(&mounts);
}

void doctor_look(struct doctor *doctor, const struct doctor_options *options)
{
        *doctor = (struct doctor){ .checks = json_array() };
        look_at_kernel(doctor);
        look_at_device(doctor);
        look_at_fusermount(doctor);
        doctor_say(doctor, VERDICT_OK, "libfuse", NULL, "%s", feature_libfuse_version());
        look_at_helper(doctor);
        look_at_limits(doctor);
        look_at_clock(doctor);
        look_at_cache(doctor, options->mount->cache_dir);
        if (options->source)
                doctor_look_at_master(doctor, options);
        else
                look_at_mounts(doctor);
}

static void print_result(const struct doctor *d, bool json, enum colour_when colour)
{
        json_t *object;

        if (!json) {
                doctor_print(d, stdout, colour_wanted(colour, STDOUT_FILENO));
                return;
        }
        object = json_pack("{s:O, s:i, s:i}", "checks", d->checks, "failed", (int)d->counts[VERDICT_FAIL],
                           "warned", (int)d->counts[VERDICT_WARN]);
        if (object)
                print_json(object);
        json_decref(object);
}

int command_doctor(int argc, char **argv)
{
        struct remote_call call;
        struct doctor doctor;
        int code;

        if (!remote_call_parse(argc, argv, "jc?", &call, &code))
                return code;
        doctor_look(&doctor, &(struct doctor_options){ .source = call.n_operands ? call.operands[0] : NULL,
                                                       .mount = &call.mount,
                                                       .cache_named = call.cache_named });
        print_result(&doctor, call.json, call.colour);
        mount_options_release(&call.mount);
        json_decref(doctor.checks);
        return doctor.counts[VERDICT_FAIL] > 0 ? 1 : 0;
}
