# evecc: everything a developer types.  No generated build system.
#
#   make            build eveccd, evecc and easeesim into build/
#   make run        a simulated cloud and a gateway on this machine, to try things out
#   make test       everything that can be checked; its last line counts
#   make check      unit tests only, seconds                 make check32: of the core, 32-bit
#   make lint       format and static analysis, DEPTH=deep for ten times as much of it
#   make bench      speed beside a bare echo and other servers, memory, writes; minutes
#   make fuzz       every parser for FUZZ_SECONDS (60) each
#   make soak       hostile traffic for SOAK_MINUTES (60) while a marked client polls
#   make docs       the documents made from the tables       make check-docs     are they fresh?
#   make docs-suites doc/conformance.md, attacks.md and faults.md, from a run of the suites
#   make docs-bench doc/performance.md and its plot, from a run of the bench
#   make check-pure the core does no I/O, takes no lock, reads no clock
#   make install    DESTDIR= PREFIX=/usr/local               make uninstall
#   make deb        a Debian package, in build/              make setup, make clean
#
# SANITIZE=address,undefined, CC=clang, WERROR=1 and V=1 go with most of them; sanitized and
# clang builds live beside the plain one.

PREFIX       ?= /usr/local
UNITDIR      ?= $(PREFIX)/lib/systemd/system
ZSHDIR       ?= $(PREFIX)/share/zsh/site-functions
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 60
PKG_CONFIG   ?= pkg-config

comma := ,
B := build$(addprefix -,$(subst $(comma),-,$(SANITIZE)))$(if $(findstring clang,$(CC)),-clang)

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

CPPFLAGS += -Iinclude -D_GNU_SOURCE
CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
            -Wmissing-prototypes -Wvla -Wwrite-strings -Wundef -Wformat=2 -Wcast-qual
ALL_CFLAGS = -std=c11 $(WARN) $(if $(WERROR),-Werror) $(CFLAGS) -MMD -MP -pthread
ifdef SANITIZE
ALL_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
else
ALL_CFLAGS += -fPIE -fstack-protector-strong -fstack-clash-protection
CPPFLAGS   += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack
endif
ALL_LDFLAGS += $(LDFLAGS) -pthread

DEP_CFLAGS := $(shell $(PKG_CONFIG) --cflags libmodbus libcurl libcjson libwebsockets zlib 2>/dev/null)
DEP_LIBS   := $(shell $(PKG_CONFIG) --libs libmodbus libcurl libcjson libwebsockets zlib 2>/dev/null) -liniparser
SIM_CFLAGS := $(shell $(PKG_CONFIG) --cflags libwebsockets libcjson 2>/dev/null)
SIM_LIBS   := $(shell $(PKG_CONFIG) --libs libwebsockets libcjson 2>/dev/null) -lm
TEST_LIBS  := $(shell $(PKG_CONFIG) --libs cmocka libssl libcrypto 2>/dev/null) -lm

# The pure core.  Its objects may import each other and what stands here, nothing else.
CORE := $(filter $(basename $(notdir $(wildcard src/*.c))),mbap regmap acl pool owner phase budget \
                 session circuit circuit_answer circuit_renew circuit_status telemetry easee_msg \
                 json signalr err state)
PURE := bcmp memchr memcmp memcpy memmove memset strchr strcmp strcspn strlen strncmp strnlen \
        strspn __memcpy_chk __memmove_chk __memset_chk __stack_chk_fail \
        _GLOBAL_OFFSET_TABLE_
PURE_acl       := inet_pton
PURE_json      := cJSON_%
PURE_signalr   := cJSON_%
PURE_easee_msg := cJSON_% explicit_bzero __explicit_bzero_chk
PURE_state     := cJSON_%

SRCS  := $(filter-out src/main.c,$(wildcard src/*.c))
OBJS  := $(SRCS:src/%.c=$B/%.o)
CLI   := $(patsubst tools/evecc/%.c,$B/cli/%.o,$(wildcard tools/evecc/*.c))
SIM   := $(patsubst tools/easeesim/%.c,$B/sim/%.o,$(wildcard tools/easeesim/*.c))
TESTS := $(patsubst tests/unit/%.c,$B/tests/%,$(wildcard tests/unit/test_*.c)) \
         $(patsubst tests/easeesim/%.c,$B/tests/%,$(wildcard tests/easeesim/test_*.c))
BENCH := $(patsubst tests/bench/%.c,$B/bench/%,$(wildcard tests/bench/*.c))
FUZZ  := $(patsubst tests/fuzz/%.c,$B/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
# Documents made from the tables: file, program in the build folder, its arguments.
DOCS  := doc/registers.md:evecc:registers:--format:markdown \
         doc/registers.csv:evecc:registers:--format:csv \
         etc/evecc.conf:docgen/options:conf doc/evecc.conf.5:docgen/options:man \
         doc/evecc.1:docgen/manual \
         doc/integrations/evecc.st:docgen/integrations:st \
         doc/integrations/iobroker.csv:docgen/integrations:iobroker \
         doc/troubleshooting.md:docgen/troubleshooting
DOCGENS := $(patsubst tools/docgen/%.c,$B/docgen/%,$(wildcard tools/docgen/*.c))
OURS  := $(shell git ls-files '*.[ch]' 2>/dev/null || find src include tools tests -name '*.[ch]')
SCRIPTS := tools/setup tools/i386 tools/debian/build tools/debian/root .ci/run

DIRS := $(addprefix $B/,bench cli docgen fuzz sim tests)

# V=1 shows whole commands.
say = $(if $(V),,@printf '  %-5s %s\n' $1 $@; )

all: $B/eveccd $B/evecc $B/easeesim

$B/libevecc.a: $(OBJS)
	$(call say,AR)rm -f $@; $(AR) rcs $@ $^

$B/eveccd: $B/main.o $B/libevecc.a
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(DEP_LIBS)

$B/evecc: $(CLI) $B/libevecc.a
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(DEP_LIBS) -lm

$B/easeesim: $(SIM)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(SIM_LIBS)

$B/%.o: src/%.c | $(DIRS)
	$(call say,CC)$(CC) $(CPPFLAGS) $(DEP_CFLAGS) $(ALL_CFLAGS) -c -o $@ $<

$B/cli/%.o: tools/evecc/%.c | $(DIRS)
	$(call say,CC)$(CC) $(CPPFLAGS) $(DEP_CFLAGS) $(ALL_CFLAGS) -c -o $@ $<

$B/sim/%.o: tools/easeesim/%.c | $(DIRS)
	$(call say,CC)$(CC) $(CPPFLAGS) $(SIM_CFLAGS) $(ALL_CFLAGS) -c -o $@ $<

PROGRAM = $(call say,CC)$(CC) $(CPPFLAGS) $(DEP_CFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ \
          $(filter %.c %.a,$^)

$B/tests/%: tests/unit/%.c $B/libevecc.a | $(DIRS)
	$(PROGRAM) $(TEST_LIBS) $(DEP_LIBS)

$B/tests/test_sim_%: tests/easeesim/test_sim_%.c $(filter-out %/main.o %/http.o,$(SIM)) | $(DIRS)
	$(call say,CC)$(CC) $(CPPFLAGS) -Itools/easeesim $(SIM_CFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ \
	    $(filter %.c %.o,$^) $(TEST_LIBS) $(SIM_LIBS)

$B/bench/%: tests/bench/%.c $B/libevecc.a | $(DIRS)
	$(PROGRAM) $(DEP_LIBS)

$B/docgen/%: tools/docgen/%.c $B/libevecc.a | $(DIRS)
	$(PROGRAM) $(DEP_LIBS)

# Only what tells the version is compiled again when it changes.
VERSIONED := $(shell grep -ls EVECC_VERSION src/*.c tools/easeesim/*.c tools/evecc/*.c)
VERSIONED := $(patsubst tools/evecc/%.c,$B/cli/%.o,$(patsubst tools/easeesim/%.c,$B/sim/%.o,\
                 $(VERSIONED:src/%.c=$B/%.o)))
$(VERSIONED): CPPFLAGS += -DEVECC_VERSION='"$(VERSION)"'
$(VERSIONED): $B/version
$B/version: FORCE | $(DIRS)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' >$@

$(DIRS): | need
	@mkdir -p $@

# A sentence instead of a page of compiler errors.
need:
	@tools/setup --check build

setup:
	@tools/setup test

# The build is a make of its own: this one looked for the libraries before set-up.
run:
	@tools/setup run
	@+$(MAKE) --no-print-directory all
	@exec tools/run $B

test:
	@tools/setup test
	@exec tests/run

check: $(TESTS)
	@for t in $(TESTS); do $$t || exit 1; done

tests: $(TESTS)

$(TESTS): | need-cmocka
need-cmocka:
	@tools/setup --check build libcmocka-dev libssl-dev

IMPORTS = $(filter-out U,$(shell nm -u $B/$1.o))
EXPORTS = $(filter-out U,$(shell nm -j --defined-only --extern-only $(CORE:%=$B/%.o)))
check-pure: $(CORE:%=$B/%.o)
	@$(if $(SANITIZE),echo "skipped: a sanitizer adds imports",$(foreach m,$(CORE),\
	    $(foreach bad,$(filter-out $(PURE) $(PURE_$m) $(EXPORTS),$(call IMPORTS,$m)),\
	        echo "$m is not pure: it imports $(bad)" >&2; impure=1;)) test -z "$$impure")

# The core with its tests as on a 32-bit machine; SSE, so that a double is one as on Arm.
M32 := build/i386/usr/lib/i386-linux-gnu
check32:
	@tools/i386 build/i386
	@+$(MAKE) --no-print-directory B=build-32 CC='$(CC) -m32 -msse2 -mfpmath=sse' \
	    OBJS='$(CORE:%=build-32/%.o)' DEP_CFLAGS= \
	    DEP_LIBS='-L$(M32) -Wl,-rpath,$(M32) -lcjson' TEST_LIBS='-lcmocka -lm' \
	    TESTS='$(sort $(foreach m,$(CORE),$(patsubst tests/unit/%.c,build-32/tests/%,\
	        $(wildcard tests/unit/test_$m.c tests/unit/test_$m_*.c))))' check

DOC_FILE = $(firstword $(subst :, ,$1))
GENERATE = $B/$(wordlist 2,9,$(subst :, ,$1))
docs: $(DOCGENS) $B/evecc
	@$(foreach d,$(DOCS),echo $(call DOC_FILE,$d); \
	    $(call GENERATE,$d) >$B/doc && cp $B/doc $(call DOC_FILE,$d) || exit 1;)
check-docs: $(DOCGENS) $B/evecc
	@$(foreach d,$(DOCS),$(call GENERATE,$d) | cmp - $(call DOC_FILE,$d) || \
	    { echo "$(call DOC_FILE,$d) is stale: make docs"; exit 1; };)
	@for suite in $(SUITES); do tests/integration/$${suite%:*}.py --check || exit 1; done

# The catalogues of rules, attacks and faults with the results of a run.
SUITES := 80_conformance:conformance 81_attacks:attacks catalogue:faults
docs-suites: all
	@for suite in $(SUITES); do \
	    echo doc/$${suite#*:}.md; \
	    tests/integration/$${suite%:*}.py --document >$B/doc && \
	        cp $B/doc doc/$${suite#*:}.md || exit 1; done

lint: lint-format lint-cppcheck lint-tidy lint-scripts
lint-format:
	clang-format --dry-run -Werror $(OURS)
lint-cppcheck:
	cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability \
	    --suppressions-list=.cppcheck -Iinclude -D_GNU_SOURCE -DEVECC_VERSION='""' src tools tests
# One file per process: clang-tidy 14 reports va_lists that are fine when it reads several.  The
# deep analysis takes ten times as long and follows calls further: DEPTH=deep.
DEPTH ?= shallow
lint-tidy:
	@printf '%s\n' $(filter src/%.c tools/%.c,$(OURS)) | xargs -I% clang-tidy --quiet \
	    --extra-arg=-Xclang --extra-arg=-analyzer-config \
	    --extra-arg=-Xclang --extra-arg=mode=$(DEPTH) % -- \
	    -std=c11 $(CPPFLAGS) $(DEP_CFLAGS) $(SIM_CFLAGS) -DEVECC_VERSION='""'
lint-scripts:
	shellcheck $(SCRIPTS)

bench: $B/eveccd $B/easeesim $(BENCH)
	@EVECC_BUILD=$B exec tests/bench/run

# doc/performance.md and its plot, from a run.
docs-bench: $B/eveccd $B/easeesim $(BENCH)
	@EVECC_BUILD=$B exec tests/bench/run --document

# libFuzzer is clang's; the library is instrumented for it, in a folder of its own.  With -j several
# run at once.
FUZZ_MAKE = $(MAKE) --no-print-directory CC=clang B=build-fuzz \
            SANITIZE=fuzzer-no-link,address,undefined
fuzz:
	@+$(FUZZ_MAKE) run-fuzzers
fuzzers:
	@+$(FUZZ_MAKE) $(FUZZ:$B/%=build-fuzz/%)

$B/fuzz/%: tests/fuzz/%.c $B/libevecc.a | $(DIRS)
	$(PROGRAM) -fsanitize=fuzzer $(DEP_LIBS)

run-fuzzers: $(FUZZ:$B/fuzz/fuzz_%=run-fuzzer-%)
run-fuzzer-%: $B/fuzz/fuzz_%
	@echo "fuzz $*, $(FUZZ_SECONDS) s"
	@mkdir -p $B/corpus/$*
	@$< -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 \
	    -artifact_prefix=$B/$*- $B/corpus/$* $(wildcard tests/fuzz/corpus/$*)

soak: all
	@EVECC_BUILD=$B tests/integration/soak --minutes $(SOAK_MINUTES)

# Everything that is installed, as mode:file:folder.  The configuration is its owner's: it is put
# there once, and neither replaced nor removed.
PAGES = $(wildcard doc/*.[1-8] tools/*/*.[1-8])
INSTALLED = \
    $(patsubst %,755:%:$(PREFIX)/sbin,$B/eveccd) \
    $(patsubst %,755:%:$(PREFIX)/bin,$B/evecc $B/easeesim) \
    644:$B/completion/evecc:$(PREFIX)/share/bash-completion/completions \
    644:$B/completion/_evecc:$(ZSHDIR) \
    $(patsubst %,644:%:$(UNITDIR),$B/eveccd.service etc/eveccd.socket) \
    $(foreach page,$(PAGES),644:$(page):$(PREFIX)/share/man/man$(subst .,,$(suffix $(page)))) \
    $(patsubst %,644:%:$(PREFIX)/share/doc/evecc,$B/README.md LICENSE etc/evecc.conf \
        $(wildcard doc/*.md doc/*.csv doc/*.svg)) \
    $(patsubst %,644:%:$(PREFIX)/share/doc/evecc/integrations,$(wildcard doc/integrations/*))
CONF = $(DESTDIR)/etc/evecc/evecc.conf

INSTALLED_FIELDS = $(word $2,$(subst :, ,$1))
install: all $B/eveccd.service $B/README.md $B/completion/evecc $B/completion/_evecc
	$(foreach i,$(INSTALLED),install -D -m $(call INSTALLED_FIELDS,$i,1) \
	    -t $(DESTDIR)$(call INSTALLED_FIELDS,$i,3) $(call INSTALLED_FIELDS,$i,2) &&) true
	test -e $(CONF) || install -D -m 644 etc/evecc.conf $(CONF)

uninstall:
	rm -f $(foreach i,$(INSTALLED),\
	    $(DESTDIR)$(call INSTALLED_FIELDS,$i,3)/$(notdir $(call INSTALLED_FIELDS,$i,2)))
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/evecc

$B/completion/evecc: SHELL_NAME = bash
$B/completion/_evecc: SHELL_NAME = zsh
$B/completion/%: $B/evecc
	@mkdir -p $(@D)
	$(call say,GEN)$B/evecc completion $(SHELL_NAME) >$@

# Where it is installed the other documents lie beside it.
$B/README.md: README.md | $(DIRS)
	$(call say,GEN)sed 's|](doc/|](|g' $< >$@

$B/eveccd.service: etc/eveccd.service FORCE | $(DIRS)
	$(call say,GEN)sed 's|/usr/sbin/|$(PREFIX)/sbin/|' $< >$@

deb:
	@tools/setup --check deb
	@tools/debian/build

clean:
	rm -rf build build-*

-include $(wildcard $B/*.d $B/tests/*.d $B/bench/*.d $B/docgen/*.d $B/fuzz/*.d $B/sim/*.d \
          $B/cli/*.d)
.PHONY: all need setup run test check check32 tests need-cmocka check-pure lint lint-format \
        lint-cppcheck lint-tidy lint-scripts docs check-docs bench docs-bench run-fuzzers fuzz \
        fuzzers soak docs-suites install uninstall deb clean FORCE
