/* SPDX-License-Identifier: MIT
 * setup.h - from configuration file and command line to what a command works with. */
#ifndef EVECC_SETUP_H
#define EVECC_SETUP_H

#include "cli.h"
#include "evecc/config.h"

/* The configuration: of --config, else of the usual place where one can be read, else all
 * defaults (*RET_PATH is NULL then).  Released with config_release(); without its
 * password. */
enum exit_code setup_config(const struct cli *cli, struct config *ret,
                            const char **ret_path);

/* The circuit of CFG that --circuit names, or the only one; NULL with EXIT_OK: CFG has
 * none. */
enum exit_code setup_circuit(const struct cli *cli, const struct config *cfg,
                             const struct config_circuit **ret);

#endif
