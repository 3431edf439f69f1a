/*-------------------------------------------------------------------------
 *
 * timeline.c
 *	  A drawing of who has held a lock when.
 *
 * It says nothing that the table below it does not say, so who cannot see it misses
 * nothing.  Everything is placed in percent of the width, so that it fits any screen with
 * text of one size.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "http/page.h"

/* How many holders have a lane of their own. */
#define LANES			8

/* In pixels. */
#define LANE_HEIGHT		40
#define BAR_TOP			18
#define BAR_HEIGHT		14
#define AXIS_HEIGHT		22

/* What the columns of the holdings are. */
enum
{
	WHO, OPERATION, CREATED, RELEASED, HOW
};

typedef struct Chart
{
	const PGresult *holdings;
	int64_t		from;
	int64_t		to;
	const char *lanes[LANES];
	int			count;			/* of lanes */
} Chart;

static const char *
who_of(const Chart *timeline, int row)
{
	const char *who = db_value(timeline->holdings, row, WHO);

	return who ? who : "";
}

/* The lane of a holder, made if need be; the last one is for all others. */
static int
lane_of(Chart *timeline, const char *who)
{
	for (int i = 0; i < timeline->count; i++)
	{
		if (strcmp(timeline->lanes[i], who) == 0)
			return i;
	}
	if (timeline->count == LANES)
		return LANES - 1;
	timeline->lanes[timeline->count] = who;
	return timeline->count++;
}

/* So many seconds as a part of the width, most of which is for the bars, in percent. */
static char *
percent(const Chart *timeline, double shift, int64_t seconds)
{
	return psprintf("%.3f", shift + 99.0 * seconds / Max(timeline->to - timeline->from, 1));
}

/* When a holding has ended; now for the one that has not. */
static int64_t
end_of(const Page *page, const PGresult *holdings, int row)
{
	return db_value(holdings, row, HOW) ? page_int(holdings, row, RELEASED) : page->now;
}

static void
draw_bar(Page *page, Chart *timeline, int row)
{
	PQExpBuffer buf = &page->html;
	const PGresult *result = timeline->holdings;
	const char *how = db_value(result, row, HOW);
	int64_t		created = page_int(result, row, CREATED);
	int64_t		released = end_of(page, result, row);
	char	   *x = percent(timeline, 0.5, created - timeline->from);
	char	   *width = percent(timeline, 0, Max(released - created, 0));

	html(buf, "<rect class=\"bar %s\" x=\"%s%%\" y=\"%d\" width=\"%s%%\" height=\"%d\">"
		 "<title>%s %s, for ", how ? how : "now", x,
		 lane_of(timeline, who_of(timeline, row)) * LANE_HEIGHT + BAR_TOP, width, BAR_HEIGHT,
		 who_of(timeline, row), db_value(result, row, OPERATION));
	html_duration(buf, Max(released - created, 0));
	html(buf, "</title></rect>\n");
	free(x);
	free(width);
}

/* Draw the finished holdings and the one that is there now, as write_history() has them. */
void
page_timeline(Page *page, const PGresult *holdings)
{
	PQExpBuffer buf = &page->html;
	Chart		timeline = {holdings, page->now};
	bool		others = false;
	int			bottom;

	for (int row = 0; row < PQntuples(holdings); row++)
	{
		const char *who = who_of(&timeline, row);
		int			lane = lane_of(&timeline, who);

		others |= strcmp(timeline.lanes[lane], who) != 0;
		timeline.from = Min(timeline.from, page_int(holdings, row, CREATED));
		timeline.to = Max(timeline.to, end_of(page, holdings, row));
	}
	bottom = timeline.count * LANE_HEIGHT;
	html(buf, "<svg role=\"img\" aria-labelledby=\"timeline\" height=\"%d\">\n"
		 "<title id=\"timeline\">Who held the lock when, as the table below says</title>\n",
		 bottom + AXIS_HEIGHT);
	for (int i = 0; i < timeline.count; i++)
	{
		bool		shared = others && i == LANES - 1;

		html(buf, "<line x1=\"0\" x2=\"100%%\" y1=\"%d\" y2=\"%d\"/>"
			 "<text x=\"0\" y=\"%d\">%s</text>\n", i * LANE_HEIGHT,
			 i * LANE_HEIGHT, i * LANE_HEIGHT + 14, shared ? "others" : timeline.lanes[i]);
	}
	for (int row = 0; row < PQntuples(holdings); row++)
		draw_bar(page, &timeline, row);
	html(buf, "<line x1=\"0\" x2=\"100%%\" y1=\"%d\" y2=\"%d\"/>"
		 "<text class=\"soft\" x=\"0\" y=\"%d\">", bottom, bottom, bottom + 16);
	html_duration(buf, Max(page->now - timeline.from, 0));
	html(buf, " ago</text><text class=\"soft\" x=\"100%%\" y=\"%d\" text-anchor=\"end\">",
		 bottom + 16);
	if (timeline.to < page->now)
	{
		html_duration(buf, page->now - timeline.to);
		html(buf, " ago");
	}
	else
		html(buf, "now");
	html(buf, "</text>\n</svg>\n");
}
