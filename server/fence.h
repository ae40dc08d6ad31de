/*
 * `fsyncfs-server fence`: asks the server that runs on this machine who shows a version of a workspace.
 */
#pragma once

/** The command; ARGV[0] is "fence". Returns the exit code: 0 everybody shows it, 1 somebody does not, 2 a wrong call, 3 it cannot be asked. */
int fence_main(int argc, char **argv);

/** For completion: prints what the last of N WORDS (1, …) after "fence" may become, as setting_complete does. */
void fence_complete(int n, char *const *words);
