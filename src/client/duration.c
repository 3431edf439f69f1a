/*-------------------------------------------------------------------------
 *
 * duration.c
 *	  Durations on the command line; tfstate-http has this, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "duration.h"

/* The longest duration that is accepted, in milliseconds: a year, as the server has it. */
#define MAX_DURATION_MS (INT64CONST(365) * 86400 * 1000)

/*
 * Read a duration: numbers with the units ms, s, m, h and d, as in "1h30m", or a bare number
 * of seconds.  Returns false if it is none, or longer than a year.
 */
bool
read_duration(const char *text, int64_t *ms)
{
	static const struct
	{
		const char *name;
		double		ms;
	}			units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	const char *p = text;
	double		total = 0;

	do
	{
		char	   *end;
		double		number = strtod(p, &end);
		size_t		letters = strspn(end, "dhms");
		double		factor = *end == '\0' && p == text ? 1000 : 0;

		for (int i = 0; i < lengthof(units); i++)
		{
			if (strlen(units[i].name) == letters && strncmp(units[i].name, end, letters) == 0)
				factor = units[i].ms;
		}
		if (end == p || !(number >= 0) || factor == 0)
			return false;
		total += number * factor;
		if (total > MAX_DURATION_MS)
			return false;
		p = end + letters;
	} while (*p);
	*ms = (int64_t) total;
	return true;
}
