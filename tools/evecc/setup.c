/* SPDX-License-Identifier: MIT */
#include "setup.h"

#include <string.h>
#include <unistd.h>

static void report(void *arg, const char *message)
{
    (void)arg;
    fprintf(stderr, "evecc: %s\n", message);
}

enum exit_code setup_config(const struct cli *cli, struct config *ret,
                            const char **ret_path)
{
    const char *path = cli->flag[FLAG_config];

    *ret_path = NULL;
    if (path == NULL && access(DEFAULT_CONFIG, R_OK) != 0) {
        config_defaults(ret);
        return EXIT_OK;
    }
    if (path == NULL)
        path = DEFAULT_CONFIG;
    *ret_path = path;
    if (config_load_public(ret, path, report, NULL) == ERR_OK)
        return EXIT_OK;
    return fail(cli, EXIT_CONFIG,
                "Mend what is named above; evecc.conf(5) explains every option.",
                "%s cannot be used", path);
}

enum exit_code setup_circuit(const struct cli *cli, const struct config *cfg,
                             const struct config_circuit **ret)
{
    const char *name = cli->flag[FLAG_circuit];
    char names[512] = "";
    size_t len = 0;

    *ret = NULL;
    for (size_t i = 0; i < cfg->circuits; i++) {
        if (name != NULL && strcmp(cfg->circuit[i].name, name) == 0) {
            *ret = &cfg->circuit[i];
            return EXIT_OK;
        }
        if (len < sizeof names)
            len += (size_t)snprintf(names + len, sizeof names - len, "%s%s",
                                    len > 0 ? ", " : "", cfg->circuit[i].name);
    }
    if (name != NULL && cfg->circuits == 0)
        return fail(cli, EXIT_NOT_FOUND, "Give a configuration with --config.",
                    "no circuit %s: there is no configuration", name);
    if (name != NULL)
        return fail(cli, EXIT_NOT_FOUND, NULL, "no circuit %s; there are: %s", name,
                    names);
    if (cfg->circuits > 1)
        return fail(cli, EXIT_USAGE, "Say which with --circuit NAME.",
                    "the configuration has several circuits: %s", names);
    if (cfg->circuits == 1)
        *ret = &cfg->circuit[0];
    return EXIT_OK;
}
