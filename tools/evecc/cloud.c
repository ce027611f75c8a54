/* SPDX-License-Identifier: MIT */
#include "cloud.h"

#include "setup.h"
#include "token.h"

#include "evecc/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

enum {
    SLICE_MS = 200,           /* how late Ctrl-C may be noticed */
    WAIT_MAX_MS = 120 * 1000, /* for a login or a budget; longer is for the caller */
    TOLD_MS = 2000,
    BODY_MAX = 2 * CONFIG_PASSWORD_MAX * 6
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

bool cloud_interrupted(void)
{
    return interrupted != 0;
}

bool cloud_wait(struct cloud *c, uint64_t ms)
{
    uint64_t end_ms = sys_now_ms() + ms, now_ms;

    while (!cloud_interrupted() && (now_ms = sys_now_ms()) < end_ms)
        easee_run(c->easee,
                  end_ms - now_ms < SLICE_MS ? (int)(end_ms - now_ms) : SLICE_MS);
    return !cloud_interrupted();
}

/* ---- configuration and command line ---- */

static enum exit_code take_flag(const struct cli *cli, enum flag flag, void *target,
                                const char *section, const char *key)
{
    char why[256];

    if (cli->flag[flag] == NULL ||
        config_set(target, section, key, cli->flag[flag], why, sizeof why))
        return EXIT_OK;
    return fail(cli, EXIT_USAGE, NULL, "--%s: %s", cli_flags()[flag].name, why);
}

/* Options of [easee] and the state directory on the command line. */
static enum exit_code take_flags(const struct cli *cli, struct config *cfg)
{
    enum exit_code status =
        take_flag(cli, FLAG_state_dir, &cfg->gateway, "gateway", "state_dir");

#define EASEE_OPT(key, ...) \
    if (status == EXIT_OK)  \
        status = take_flag(cli, FLAG_##key, &cfg->easee, "easee", #key);
#include "evecc/options.def"
    return status;
}

static bool ask(const char *what, bool echo, char *ret, size_t size)
{
    struct termios before, quiet;
    bool good;

    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO) ||
        tcgetattr(STDIN_FILENO, &before) != 0)
        return false;
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    fprintf(stderr, "%s: ", what);
    if (!echo)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    good = fgets(ret, (int)size, stdin) != NULL;
    if (!echo) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    if (good)
        ret[strcspn(ret, "\r\n")] = '\0';
    return good && *ret != '\0' && !cloud_interrupted();
}

enum password cloud_password(struct cloud *c, char why[static 256])
{
    const char *given = c->cli->flag[FLAG_password];
    struct config_easee *e = &c->cfg.easee;
    enum password result = PASSWORD_KNOWN;

    if (given == NULL && c->cli->flag[FLAG_password_file] == NULL)
        given = getenv("EVECC_PASSWORD");
    if (given == NULL && !config_password(e->password_file, e->password, why, 256))
        /* A file that was named must be right. */
        result =
            c->cli->flag[FLAG_password_file] != NULL ? PASSWORD_WRONG : PASSWORD_NONE;
    if (given != NULL && (*given == '\0' || strlen(given) >= sizeof e->password)) {
        snprintf(why, 256, "it has 1 to %zu characters", sizeof e->password - 1);
        result = PASSWORD_WRONG;
    } else if (given != NULL) {
        memcpy(e->password, given, strlen(given) + 1);
    }
    if (result == PASSWORD_KNOWN)
        c->mark = account_mark(e->username, e->password);
    return result;
}

bool cloud_ask_password(struct cloud *c)
{
    struct config_easee *e = &c->cfg.easee;
    char question[CONFIG_TEXT_MAX + 32];

    snprintf(question, sizeof question, "Password of %s", e->username);
    if (!ask(question, false, e->password, sizeof e->password))
        return false;
    c->mark = account_mark(e->username, e->password);
    return true;
}

static enum exit_code take_username(const struct cli *cli, struct config *cfg)
{
    const char *env = getenv("EVECC_USERNAME");
    char why[256], text[CONFIG_TEXT_MAX];

    if (env != NULL && cli->flag[FLAG_username] == NULL &&
        !config_set(&cfg->easee, "easee", "username", env, why, sizeof why))
        return fail(cli, EXIT_CONFIG, NULL, "EVECC_USERNAME: %s", why);
    if (*cfg->easee.username == '\0' &&
        ask("User name at Easee (e-mail, or phone with country code)", true, text,
            sizeof text))
        config_set(&cfg->easee, "easee", "username", text, why, sizeof why);
    if (*cfg->easee.username != '\0')
        return EXIT_OK;
    return fail(cli, EXIT_CONFIG,
                "Give --username and --password-file, or a configuration with --config.",
                "no user name: there is no " DEFAULT_CONFIG
                " that can be read and nothing on the command line");
}

/* Where budgets live when the gateway's directory is not ours to use. */
static bool own_state_dir(char path[static PATH_MAX])
{
    const char *base = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int len;

    if (base != NULL && base[0] == '/')
        len = snprintf(path, PATH_MAX, "%s/evecc", base);
    else if (home != NULL && home[0] == '/')
        len = snprintf(path, PATH_MAX, "%s/.local/state/evecc", home);
    else
        return false;
    if (len >= PATH_MAX)
        return false;
    for (char *p = strchr(path + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';
        mkdir(path, 0700);
        *p = '/';
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

static void open_account(struct cloud *c)
{
    const char *dir = c->cfg.gateway.state_dir;
    char own[PATH_MAX], why[256];
    struct account *a = NULL;

    c->shared_account = account_open(&c->account, dir, sys_clock, c->account_why,
                                     sizeof c->account_why) == ERR_OK;
    if (c->shared_account)
        return;
    if (c->cli->flag[FLAG_state_dir] == NULL && access(dir, F_OK) != 0)
        c->account_why[0] = '\0';
    if (own_state_dir(own) &&
        account_open(&a, own, sys_clock, why, sizeof why) == ERR_OK) {
        account_free(c->account);
        c->account = a;
    } else {
        account_free(a);
    }
}

enum exit_code cloud_open(const struct cli *cli, struct cloud *ret)
{
    struct sigaction catch = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    struct easee_options opt;
    enum exit_code status;

    *ret = (struct cloud){.cli = cli, .mark = -1};
    sys_protect_memory();
    easee_prepare_process();
    sigaction(SIGINT, &catch, NULL);
    sigaction(SIGTERM, &catch, NULL);
    if (cli->flag[FLAG_password] != NULL)
        warn("--password shows the password to everybody on this machine; better "
             "--password-file or EVECC_PASSWORD");
    status = setup_config(cli, &ret->cfg, &ret->path);
    if (status == EXIT_OK)
        status = take_flags(cli, &ret->cfg);
    if (status == EXIT_OK)
        status = take_username(cli, &ret->cfg);
    if (status != EXIT_OK)
        return status;
    session_init(&ret->session, sys_random());
    open_account(ret);
    opt = (struct easee_options){.api_url = ret->cfg.easee.api_url,
                                 .ca_file = ret->cfg.easee.ca_file};
    if (ret->account == NULL || easee_new(&ret->easee, &opt) != ERR_OK)
        return fail(cli, EXIT_CONFIG, "Check api_url and ca_file.",
                    "api_url %s, ca_file %s cannot be used", opt.api_url, opt.ca_file);
    return EXIT_OK;
}

void cloud_close(struct cloud *c)
{
    easee_free(c->easee);
    account_free(c->account);
    config_release(&c->cfg);
    explicit_bzero(c, sizeof *c);
}

/* ---- one call ---- */

/* Starts the call and waits for its end, or for Ctrl-C. */
static enum err carry(struct cloud *c, const struct easee_call *call)
{
    enum err err = easee_start(c->easee, call);

    c->detail[0] = '\0';
    c->reply = (struct easee_reply){.retry_after_s = -1, .body = ""};
    if (err != ERR_OK)
        return err;
    progress_begin("asking %s", c->cfg.easee.api_url);
    while (!cloud_interrupted() && !easee_take(c->easee, &c->reply))
        easee_run(c->easee, SLICE_MS);
    progress_end();
    if (cloud_interrupted())
        return ERR_SYSTEM;
    snprintf(c->detail, sizeof c->detail, "%s", c->reply.detail);
    if (c->reply.err != ERR_OK)
        return c->reply.err;
    if (c->reply.http_status == 200 || c->reply.http_status == 202)
        return ERR_OK;
    return easee_msg_problem(c->reply.http_status, c->reply.body, c->reply.len, c->detail,
                             sizeof c->detail);
}

/* Waits MS and says why, if that is bearable; otherwise c->detail says how long. */
static bool wait_for(struct cloud *c, uint64_t ms, const char *why)
{
    bool terminal = isatty(STDERR_FILENO);
    bool done;

    snprintf(c->detail, sizeof c->detail, "%s, possible again in %llu s", why,
             (unsigned long long)(ms + 999) / 1000);
    if (ms > WAIT_MAX_MS)
        return false;
    if (ms > TOLD_MS && !terminal)
        fprintf(stderr, "evecc: waiting %llu s: %s\n",
                (unsigned long long)(ms + 999) / 1000, why);
    progress_begin("waiting %llu s: %s", (unsigned long long)(ms + 999) / 1000, why);
    done = cloud_wait(c, ms);
    progress_end();
    return done;
}

/* ---- login ---- */

static struct token_owner owner(const struct cloud *c)
{
    return (struct token_owner){c->cfg.easee.api_url, c->cfg.easee.username, c->mark};
}

static bool use_kept_token(struct cloud *c)
{
    char access[EASEE_TOKEN_MAX];
    struct token_owner o = owner(c);

    if (token_load(&o, (int64_t)sys_unix_s(), access))
        c->token_of = "an earlier command";
    else if (c->shared_account && token_borrow(&o, c->cfg.gateway.state_dir, access))
        c->token_of = "the gateway";
    if (c->token_of != NULL)
        easee_set_token(c->easee, access);
    explicit_bzero(access, sizeof access);
    return c->token_of != NULL;
}

static enum err send_login(struct cloud *c)
{
    static struct easee_token token;
    char body[BODY_MAX];
    struct token_owner o = owner(c);
    struct easee_call call = {.path = "/api/accounts/login", .body = body, .once = true};
    enum err err = ERR_SYSTEM;

    if (easee_msg_login(body, sizeof body, c->cfg.easee.username, c->cfg.easee.password) >
        0)
        err = carry(c, &call);
    explicit_bzero(body, sizeof body);
    if (err == ERR_OK)
        err = easee_msg_token(c->reply.body, c->reply.len, &token);
    if (err == ERR_OK) {
        easee_set_token(c->easee, token.access);
        c->token_expires_unix_s = (int64_t)sys_unix_s() + token.expires_in_s;
        token_save(&o, token.access, c->token_expires_unix_s);
    }
    return err;
}

/* What keeps a login from being sent at NOW_MS; ERR_OK: nothing, and it counts as sent.
 */
static enum err may_log_in(struct cloud *c, uint64_t *ret_wait_ms)
{
    struct session *s = &c->session;
    uint64_t now_ms = account_lock(c->account);
    enum err err = ERR_OK;

    account_restore_session(c->account, s, (uint8_t)c->mark);
    if (session_next(s, now_ms) == SESSION_LOGIN) {
        budget_take(&account_budgets(c->account)->of[BUDGET_ALL], now_ms);
        account_keep_session(c->account, s, (uint8_t)c->mark);
        *ret_wait_ms = 0;
    } else {
        *ret_wait_ms = session_wake(s, now_ms) - now_ms;
        err = s->blocked_until_ms > now_ms ? ERR_BLOCKED
              : s->credentials_refused     ? ERR_CREDENTIALS
                                           : ERR_THROTTLED;
    }
    account_unlock(c->account);
    return err;
}

/* Why a login has to wait, for the one who waits. */
static const char *reason(enum err err)
{
    switch (err) {
    case ERR_BLOCKED:
        return "this machine remembers a block by the cloud";
    case ERR_CREDENTIALS:
        return "this password was refused before";
    default:
        return "at most one login a minute";
    }
}

static enum err log_in(struct cloud *c)
{
    uint64_t wait_ms, now_ms;
    enum err err = may_log_in(c, &wait_ms);

    if (err != ERR_OK && wait_for(c, wait_ms, reason(err)))
        err = may_log_in(c, &wait_ms);
    if (err != ERR_OK)
        return err;
    err = send_login(c);
    now_ms = account_lock(c->account);
    account_restore_session(c->account, &c->session, (uint8_t)c->mark);
    if (err == ERR_OK)
        session_granted(&c->session, c->token_expires_unix_s - (int64_t)sys_unix_s(),
                        now_ms);
    else
        session_failed(&c->session, err, c->reply.retry_after_s, now_ms);
    account_keep_session(c->account, &c->session, (uint8_t)c->mark);
    account_unlock(c->account);
    return err;
}

/* Nothing may be sent then: each call would prolong it. */
static bool remembers_block(struct cloud *c)
{
    uint64_t now_ms = account_lock(c->account);
    bool blocked;

    account_restore_session(c->account, &c->session, (uint8_t)c->mark);
    blocked = c->session.blocked_until_ms > now_ms;
    if (blocked)
        snprintf(c->detail, sizeof c->detail,
                 "as this machine remembers, for another %llu min",
                 (unsigned long long)(c->session.blocked_until_ms - now_ms) / 60000 + 1);
    account_unlock(c->account);
    return blocked;
}

enum err cloud_login(struct cloud *c)
{
    if (remembers_block(c))
        return ERR_BLOCKED;
    return use_kept_token(c) ? ERR_OK : log_in(c);
}

enum exit_code cloud_start(const struct cli *cli, struct cloud *ret)
{
    enum exit_code status = cloud_open(cli, ret);
    enum password password;
    char why[256];
    enum err err;

    if (status != EXIT_OK)
        return status;
    /* A gateway that works there calls the cloud, too, and does not know of our calls. */
    if (*ret->account_why != '\0')
        warn("call budgets are not shared with the gateway: %s", ret->account_why);
    password = cloud_password(ret, why);
    /* A kept token may stand in for a password that would have to be asked for. */
    if (password == PASSWORD_WRONG ||
        (password == PASSWORD_NONE && !use_kept_token(ret) && !cloud_ask_password(ret)))
        return fail(cli, EXIT_CONFIG,
                    "Give --password-file FILE (mode 0600, your own), EVECC_PASSWORD, or "
                    "run it in a terminal to be asked.",
                    "no password: %s%s%s", ret->cfg.easee.password_file,
                    *ret->cfg.easee.password_file != '\0' ? ": " : "", why);
    err = cloud_login(ret);
    return err == ERR_OK ? EXIT_OK
                         : cloud_fail(ret, err, "login as %s", ret->cfg.easee.username);
}

/* ---- calls ---- */

/* Takes one call from the budgets; waits for a short while when there is none. */
static enum err take_budget(struct cloud *c, enum budget_class class)
{
    for (unsigned attempt = 0;; attempt++) {
        uint64_t now_ms = account_lock(c->account), wait_ms;
        struct budgets *b = account_budgets(c->account);

        wait_ms = budgets_wait_ms(b, class, now_ms, false);
        if (wait_ms == 0)
            budgets_take(b, class, now_ms);
        account_unlock(c->account);
        if (wait_ms == 0)
            return ERR_OK;
        if (attempt > 2 || !wait_for(c, wait_ms, "call budget used up"))
            return cloud_interrupted() ? ERR_SYSTEM : ERR_THROTTLED;
    }
}

/* What the answer means for everybody who uses the account. */
static void account_for(struct cloud *c, enum budget_class class, enum err err)
{
    uint64_t now_ms = account_lock(c->account);
    struct budgets *b = account_budgets(c->account);

    account_restore_session(c->account, &c->session, (uint8_t)c->mark);
    for (unsigned i = 1; i < c->reply.transmissions; i++)
        budgets_take(b, class, now_ms);
    if (err == ERR_THROTTLED)
        budget_throttled(&b->of[class], c->reply.retry_after_s, now_ms);
    if (err == ERR_BLOCKED)
        session_blocked(&c->session, now_ms);
    if (err == ERR_OK)
        session_accepted(&c->session);
    account_keep_session(c->account, &c->session, (uint8_t)c->mark);
    account_unlock(c->account);
}

enum err cloud_greet(struct cloud *c)
{
    struct easee_call call = {.path = "/health"};
    uint64_t now_ms;
    enum err err;

    if (remembers_block(c))
        return ERR_BLOCKED;
    now_ms = account_lock(c->account);
    budget_take(&account_budgets(c->account)->of[BUDGET_ALL], now_ms);
    account_unlock(c->account);
    err = carry(c, &call);
    if (err == ERR_BLOCKED)
        account_for(c, BUDGET_ALL, err);
    return c->reply.err == ERR_OK && err != ERR_BLOCKED ? ERR_OK : err;
}

enum err cloud_call(struct cloud *c, enum budget_class class, const char *path,
                    const char *body)
{
    struct easee_call call = {.path = path, .body = body, .authorised = true};
    enum err err = take_budget(c, class);

    if (err != ERR_OK)
        return err;
    err = carry(c, &call);
    account_for(c, class, err);
    if (err != ERR_UNAUTHORISED || c->token_of == NULL)
        return err;
    /* That token was revoked: the one login of this command. */
    token_forget();
    c->token_of = NULL;
    if (c->mark < 0 && !cloud_ask_password(c))
        return err;
    err = log_in(c);
    if (err == ERR_OK)
        err = take_budget(c, class);
    if (err != ERR_OK)
        return err;
    err = carry(c, &call);
    account_for(c, class, err);
    return err;
}

enum exit_code cloud_fail(const struct cloud *c, enum err err, const char *cause, ...)
{
    char what[512];
    va_list args;

    if (cloud_interrupted())
        return fail(c->cli, EXIT_FAILED, NULL, "interrupted");
    va_start(args, cause);
    vsnprintf(what, sizeof what, cause, args);
    va_end(args);
    return fail_err(c->cli, err, c->detail, "%s", what);
}

bool cloud_gateway_runs(const struct cloud *c, int *ret_pid)
{
    char path[PATH_MAX], text[16] = "";
    int fd = open(c->cfg.gateway.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), pid;
    bool runs;

    *ret_pid = 0;
    if (fd < 0)
        return false;
    runs = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    snprintf(path, sizeof path, "%s/pid", c->cfg.gateway.state_dir);
    fd = runs ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) > 0 && (pid = atoi(text)) > 0)
            *ret_pid = pid;
        close(fd);
    }
    return runs;
}
