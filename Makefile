# tfstate: state locks and guarded states for Terraform, OpenTofu and SQL

EXTENSION = tfstate
MODULE_big = tfstate
PGFILEDESC = "tfstate - state locks for Terraform, OpenTofu and SQL"

OBJS = $(patsubst %.c,%.o,$(filter-out src/client/% src/http/%,$(sort $(wildcard src/*.c src/*/*.c))))
PG_CPPFLAGS = -I$(srcdir)/src
# the functions that SQL calls, and _PG_init()
SHLIB_EXPORTS = src/exports.txt
EXTRA_CLEAN = $(SHLIB_EXPORTS) src/client/tfstate src/client/*.o src/http/tfstate-http src/http/*.o

# The install script is put together from its parts, in this order, and the update of the last
# release is told from both scripts; see sql/install/README.md.
RELEASED = 0.1
NEXT := $(shell sed -n "s,^default_version = '\(.*\)',\1,p" tfstate.control)
SCRIPT = sql/tfstate--$(NEXT).sql
UPDATE = sql/tfstate--$(RELEASED)--$(NEXT).sql
PARTS = head installation role lock_tables privileges locks lock_views freeze shim \
	state_tables administrators guard workspaces versions resources rights rename check_replication \
	attach_obstacles attach_table attach_role members configuration attach detach \
	database new_tables check_tables check_roles check metrics default_privileges
DATA_built = $(SCRIPT) $(UPDATE)
DATA = $(filter-out $(DATA_built),$(wildcard sql/tfstate--*.sql))

SHLIB_LINK = -lzstd

REGRESS = $(filter-out tfstate--%,$(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql))))
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
# without the notices of waiters, which contain times and process IDs
ISOLATION_OPTS = --inputdir=test --launcher='env PGOPTIONS="$$PGOPTIONS -c client_min_messages=warning"'
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS does not track headers.
$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*/*.h)

$(SHLIB_EXPORTS): $(OBJS:.o=.c)
	{ echo Pg_magic_func; echo _PG_init; \
	  sed -n 's/^PG_FUNCTION_INFO_V1(\(.*\));/\1 pg_finfo_\1/p' $^ | tr ' ' '\n'; } >$@

$(SCRIPT): $(PARTS:%=sql/install/%.sql) Makefile
	awk 'FNR == 1 && NR != 1 { print "" } { print }' $(filter %.sql,$^) >$@

$(UPDATE): sql/install/update.pl sql/tfstate--$(RELEASED).sql $(SCRIPT) sql/install/update.sql
	perl $^ >$@

# The client program.  PGXS builds one thing only, so this is a rule of our own.  With
# WITHOUT_CLIENT=1 it, and the server below, are built by their own targets only.
CLIENT = src/client/tfstate
CLIENT_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/client/*.c)))

ifndef WITHOUT_CLIENT
all: $(CLIENT)
install: install-client
uninstall: uninstall-client
endif

$(CLIENT_OBJS): $(wildcard src/client/*.h)
$(CLIENT_OBJS): override CPPFLAGS := -DFRONTEND -DTFSTATE_VERSION='"$(NEXT)"' -I$(libpq_srcdir) $(CPPFLAGS)

$(CLIENT): $(CLIENT_OBJS)
	$(CC) $(CFLAGS) $^ $(LDFLAGS) $(LDFLAGS_EX) -L$(pkglibdir) -L$(libdir) -lpgfeutils -lpgcommon -lpgport $(libpq) -lm -o $@

# The server for Terraform's http backend, a program of its own so that the client needs
# libpq only.  It is built where libmicrohttpd is found, and in any case by "make http".
HTTP = src/http/tfstate-http
HTTP_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/http/*.c)))
HTTP_LIBS = -lmicrohttpd -lgnutls -lpthread
has_http := $(shell echo 'int main(void) { return 0; }' | $(CC) -include microhttpd.h -include gnutls/gnutls.h -x c - \
	$(HTTP_LIBS) -o /dev/null 2>/dev/null && echo yes)

ifndef WITHOUT_CLIENT
ifeq ($(has_http),yes)
all: http
install: install-http
else
all: no-http
endif
endif

.PHONY: http no-http install-http
http: $(HTTP)
no-http:
	@echo 'libmicrohttpd is not installed: "tfstate serve" and "tfstate run --http" are left out'

$(HTTP_OBJS): $(wildcard src/http/*.h src/client/*.h) src/common/quoted_words.h
$(HTTP_OBJS): override CPPFLAGS := -DFRONTEND -DTFSTATE_VERSION='"$(NEXT)"' -I$(srcdir)/src -I$(libpq_srcdir) $(CPPFLAGS)

$(HTTP): $(HTTP_OBJS) src/client/child.o src/client/duration.o src/client/event.o
	$(CC) $(CFLAGS) $^ $(LDFLAGS) $(LDFLAGS_EX) -L$(pkglibdir) -L$(libdir) -lpgfeutils -lpgcommon -lpgport $(libpq) \
		$(HTTP_LIBS) -lm -o $@

# Where the client goes.  The directories of PostgreSQL are in no search path on some
# systems: CLIENT_PREFIX=/usr/local names others.
ifdef CLIENT_PREFIX
client_bindir = $(CLIENT_PREFIX)/bin
client_mandir = $(CLIENT_PREFIX)/share/man
client_datadir = $(CLIENT_PREFIX)/share
else
client_bindir = $(bindir)
client_mandir = $(mandir)
client_datadir = $(datadir)
endif
completiondir = $(client_datadir)/bash-completion/completions

install-client: $(CLIENT)
	$(MKDIR_P) '$(DESTDIR)$(client_bindir)' '$(DESTDIR)$(client_mandir)/man1' '$(DESTDIR)$(completiondir)'
	$(INSTALL_PROGRAM) $(CLIENT) '$(DESTDIR)$(client_bindir)'
	$(INSTALL_DATA) $(srcdir)/doc/tfstate.1 '$(DESTDIR)$(client_mandir)/man1'
	$(INSTALL_DATA) $(srcdir)/src/client/tfstate.bash '$(DESTDIR)$(completiondir)/tfstate'

install-http: $(HTTP)
	$(MKDIR_P) '$(DESTDIR)$(client_bindir)'
	$(INSTALL_PROGRAM) $(HTTP) '$(DESTDIR)$(client_bindir)'

uninstall-client:
	rm -f '$(DESTDIR)$(client_bindir)/tfstate' '$(DESTDIR)$(client_bindir)/tfstate-http' '$(DESTDIR)$(client_mandir)/man1/tfstate.1' '$(DESTDIR)$(completiondir)/tfstate'
