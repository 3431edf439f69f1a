/*-------------------------------------------------------------------------
 *
 * print.c
 *	  Results as tables, CSV or JSON.
 *
 * Tables and CSV are printed by what psql prints them with, libpgfeutils.  This is the
 * only file that knows it, since its interface is another one in each major.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "fe_utils/print.h"

#include "client.h"
#include "print.h"

/*
 * Write what has been printed to standard output so far.  Returns false if that, or what
 * was printed before, could not be written, which is reported the first time.
 */
bool
flush_output(void)
{
	static bool failed = false;

	if (!failed && (fflush(stdout) != 0 || ferror(stdout)))
	{
		fprintf(stderr, "%s: could not write to standard output: %s\n", progname, strerror(errno));
		failed = true;
	}
	return !failed;
}

/*
 * Print a result to standard output, in the encoding of its connection.  A table at a
 * terminal fits its width, and goes through the pager if it is longer than the screen.
 * JSON was made by the server: it is the only value of the result.
 */
void
print_result(const PGresult *result, int encoding, OutputFormat format, bool expanded)
{
	printQueryOpt opt = {0};
	struct winsize size;

	if (format == FORMAT_JSON)
	{
		printf("%s\n", PQgetvalue(result, 0, 0));
		return;
	}
	opt.topt.format = format == FORMAT_CSV ? PRINT_CSV : PRINT_ALIGNED;
	opt.topt.border = 1;
	opt.topt.expanded = expanded;
	opt.topt.pager = 1;
	opt.topt.start_table = true;
	opt.topt.stop_table = true;
	opt.topt.default_footer = true;
	opt.topt.csvFieldSep[0] = ',';
	opt.topt.encoding = encoding;
	if (format == FORMAT_TABLE && isatty(STDOUT_FILENO) &&
		ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
	{
		opt.topt.format = PRINT_WRAPPED;
		opt.topt.columns = size.ws_col;
		/* if the headings do not fit, one line a column */
		if (!expanded)
			opt.topt.expanded = 2;
	}
	printQuery(result, &opt, stdout, false, NULL);
}
