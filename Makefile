# evecc: everything a developer types.  No generated build system.
#
#   make            build eveccd and easeesim        make run      a simulated cloud and a gateway
#   make check      unit tests, seconds              make test     everything, with its set-up
#   make SANITIZE=address,undefined check            make lint     format and static analysis

comma := ,
B := build$(addprefix -,$(subst $(comma),-,$(SANITIZE)))$(if $(filter clang%,$(CC)),-clang)

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

PKGS     := libmodbus libcurl libcjson
PKGS_SIM := libwebsockets libcjson
PKG_CONFIG ?= pkg-config

CPPFLAGS += -Iinclude -D_GNU_SOURCE -DEVECC_VERSION='"$(VERSION)"'
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

DEP_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)
DEP_LIBS   := $(shell $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null) -liniparser
SIM_LIBS   := $(shell $(PKG_CONFIG) --libs $(PKGS_SIM) 2>/dev/null) -lm
TEST_LIBS  := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null)

# The pure core: no I/O, no clock, no lock.  easee_msg also imports cJSON.
CORE  := mbap regmap acl phase budget session circuit telemetry easee_msg err
SRCS  := $(filter-out src/main.c,$(wildcard src/*.c))
OBJS  := $(SRCS:src/%.c=$B/%.o)
SIM   := $(patsubst tools/easeesim/%.c,$B/easeesim.d/%.o,$(wildcard tools/easeesim/*.c))
TESTS := $(patsubst tests/unit/%.c,$B/tests/%,$(wildcard tests/unit/test_*.c))

all: $(if $(wildcard src/main.c),$B/eveccd) $(if $(SIM),$B/easeesim)

$B/libevecc.a: $(OBJS)
	@rm -f $@
	$(AR) rcs $@ $^

$B/eveccd: $B/main.o $B/libevecc.a
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(DEP_LIBS)

$B/easeesim: $(SIM)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(SIM_LIBS)

$B/%.o: src/%.c | $B
	$(CC) $(CPPFLAGS) $(DEP_CFLAGS) $(ALL_CFLAGS) -c -o $@ $<

$B/easeesim.d/%.o: tools/easeesim/%.c | $B
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -c -o $@ $<

$B/tests/%: tests/unit/%.c $B/libevecc.a | $B
	$(CC) $(CPPFLAGS) $(DEP_CFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $B/libevecc.a $(TEST_LIBS) $(DEP_LIBS) -lm

$B:
	@mkdir -p $B $B/tests $B/easeesim.d

check: $(TESTS)
	@for t in $(TESTS); do $$t || exit 1; done

clean:
	rm -rf build build-*

-include $(wildcard $B/*.d $B/tests/*.d $B/easeesim.d/*.d)
.PHONY: all check clean
