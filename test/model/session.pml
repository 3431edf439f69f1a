/*-------------------------------------------------------------------------
 *
 * session.pml
 *	  The model of the locks in session mode: their entries in shared memory, and the end tag.
 *
 * Sessions lock, unlock, force-unlock and write under one lockid in transactions with a
 * savepoint, which commit, fail to commit and roll back; they end and discard their tags.
 * lock.pml has who may take a lock, and in which order; here is what becomes of its entry
 * (session_lock.c), from the look that finds it to its removal.  So here nobody queues: whoever
 * waits for a tag gets it when it is free, or gives up at any time.  Of durable locks there is
 * as much as takes over what a dead session has left.
 *
 * An entry that is free can be removed at any time, so the model knows it no longer; but its
 * place in the array is not used again as long as anybody has anything to do with it.  So a
 * place stands for a fence, too, and the end tag of the fence is a field of the entry.  A run
 * can be of any length.
 *
 * Checked in every state that can be reached:
 *
 *	exclusion		no two locks are in force, and nobody sees two entries (tfstate_find_row,
 *					publish_entries, make_visible)
 *	one end			a lock ends once, and whoever ends it has the right to (free_entries)
 *	living sessions	are not taken for dead; only the session itself ends its lock, or a
 *					release by force (delete_ended_holdings)
 *	writes			while a transaction that has written under a lock is open, nobody else ends
 *					it or takes another one (free_entries, publish_entries, make_visible)
 *	rollback		leaves what was there before: outside of a transaction a session has the lock
 *					tag if and only if there is a live entry of it, and no end tag (Session)
 *	memory			no entry is removed that a session has still to show or to free
 *					(free_entries, publish_entries)
 *
 * Macros choose what is explored; all are 0 by default.  With one of the BUG_ macros the model
 * has that bug.
 *
 *-------------------------------------------------------------------------
 */

#ifndef SESSIONS
#define SESSIONS	2
#endif
#ifndef OPERATIONS
#define OPERATIONS	1			/* of a transaction */
#endif
#ifndef ENTRIES
#define ENTRIES		3
#endif
#ifndef ENDS
#define ENDS		0			/* sessions end, whatever they do */
#endif
#ifndef DISCARDS
#define DISCARDS	0			/* pg_advisory_unlock_all() */
#endif
#ifndef FORCES
#define FORCES		0			/* tfstate_force_unlock() with terminate */
#endif
#ifndef SAVEPOINTS
#define SAVEPOINTS	0
#endif
#ifndef WRITES
#define WRITES		0			/* of states, under the lock, by any session */
#endif
#ifndef DURABLE_MODE
#define DURABLE_MODE	0		/* durable locks, too */
#endif

#define NOBODY		0
#define PROCS		(SESSIONS + 1)
#define NONE		ENTRIES
#define BIT(x)		(1 << (x))

mtype = { FREE, PENDING, LIVE };

typedef Entry
{
	mtype state = FREE;
	byte taker;					/* the process */
	byte session;				/* 0 once the session has ended */
	byte end_tag;				/* who has it exclusively ... */
	byte end_shares;			/* ... and who has shares: a bit each */
};
Entry entry[ENTRIES];

/* The lock tag: its owner, who has it at the level of the transaction or for the session. */
byte tag_owner;
byte tag_session;				/* how often */

/* The durable lock: who has it, and whose transaction is taking or releasing it. */
byte durable;
byte inserter;
byte deleter;

/* What the end of the transaction of each session has to do with entries: a bit each. */
byte taking[PROCS];
byte ending[PROCS];
byte seen[PROCS];				/* the entry that was read, which the session will find again */
byte written[PROCS];			/* the entries under which the transaction has written */
bit terminated[PROCS];
bit leaving[PROCS];				/* is releasing its tags */

#define HAS_LOCK_TAG	(tag_owner == me)
#define ENDED_HERE(i)	(ending[me] & BIT(i))
#define TAKEN_HERE(i)	(entry[i].state == PENDING && entry[i].taker == me)
#define SEEN_BY_ME(i)	((entry[i].state == LIVE || TAKEN_HERE(i)) && !ENDED_HERE(i))
#define ALIVE(i)		(entry[i].session != 0)
#define SEES_DURABLE	(durable != NOBODY && (inserter == NOBODY || inserter == me) && deleter != me)
#define MAY_END(i)		((entry[i].end_tag == NOBODY || entry[i].end_tag == me) && \
						 (entry[i].end_shares & ~BIT(me)) == 0)

/*
 * session_lock.c
 */

/* tfstate_find_session_lock(): there is never more than one. */
inline tfstate_find_session_lock()
{
	seen[me] = NONE;
	i = 0;
	do
	:: i < ENTRIES && SEEN_BY_ME(i) -> assert(seen[me] == NONE); seen[me] = i; i++
	:: i < ENTRIES && !SEEN_BY_ME(i) -> i++
	:: else -> break
	od;
	i = 0
}

/* The entry that was read, if this transaction still sees it. */
inline find_again()
{
#ifdef BUG_NO_FENCE
	i = 0;
	do
	:: i < ENTRIES && SEEN_BY_ME(i) -> seen[me] = i; break
	:: i < ENTRIES && !SEEN_BY_ME(i) -> i++
	:: else -> seen[me] = NONE; break
	od;
	i = 0
#else
	if
	:: seen[me] != NONE && !SEEN_BY_ME(seen[me]) -> seen[me] = NONE
	:: else
	fi
#endif
}

/* Put the end on the list, if the entry is there. */
inline add_end()
{
	if
	:: seen[me] != NONE ->
		ending[me] = ending[me] | BIT(seen[me]);
		level_ending = (level == 1 -> level_ending | BIT(seen[me]) : level_ending);
		done = 1
	:: else
	fi
#ifdef BUG_FREED_AT_ONCE
	;
	if
	:: seen[me] != NONE -> entry[seen[me]].state = FREE
	:: else
	fi
#endif
}

inline note_end_tag(x)
{
	entry[x].end_tag = me;
	level_tags = (level == 1 && !(my_tags & BIT(x)) -> level_tags | BIT(x) : level_tags);
	my_tags = my_tags | BIT(x)
}

/*
 * tfstate_end_session_lock() with wait, as a release does.  done says that the lock will end;
 * otherwise the caller looks again.
 */
inline end_and_wait()
{
	atomic { find_again() };
	if
	:: atomic { seen[me] == NONE -> skip }
	:: atomic { seen[me] != NONE && TAKEN_HERE(seen[me]) -> add_end() }
#ifdef BUG_NO_END_TAG
	:: atomic { seen[me] != NONE && !TAKEN_HERE(seen[me]) -> add_end() }
#else
	:: atomic { seen[me] != NONE && !TAKEN_HERE(seen[me]) && MAY_END(seen[me]) -> note_end_tag(seen[me]) };
		atomic {
#ifndef BUG_NO_SECOND_LOOK
			find_again();
#endif
			add_end()
		}
	:: atomic { seen[me] != NONE && !TAKEN_HERE(seen[me]) && !MAY_END(seen[me]) -> goto abort }
#endif
	fi
}

/*
 * The same without wait: busy says that another transaction is ending the lock, or keeps it from
 * ending.
 */
inline try_to_end()
{
	atomic {
		find_again();
		if
		:: seen[me] != NONE && !TAKEN_HERE(seen[me]) && MAY_END(seen[me]) -> note_end_tag(seen[me])
#ifdef BUG_END_TRIED
		:: seen[me] != NONE && !TAKEN_HERE(seen[me]) && !MAY_END(seen[me])
#else
		:: seen[me] != NONE && !TAKEN_HERE(seen[me]) && !MAY_END(seen[me]) -> busy = 1
#endif
		:: else
		fi
	}
	if
	:: atomic { !busy -> find_again(); add_end() }
	:: atomic { busy -> skip }
	fi
}

/* What is not looked at any more is reset, so that states are the same whatever led to them. */
inline forget_entry()
{
	entry[i].state = FREE; entry[i].session = 0; entry[i].taker = NOBODY
}

/*
 * Put an entry into a place that nobody refers to.  Without such a place the run is not followed:
 * there would be as many as it takes.
 */
inline tfstate_insert_session_lock()
{
	i = 0;
	do
	:: i < ENTRIES ->
		busy = entry[i].state != FREE || entry[i].end_tag != NOBODY || entry[i].end_shares != 0;
		p = 1;
		do
		:: p < PROCS ->
			busy = busy || seen[p] == i || ((taking[p] | ending[p] | written[p]) & BIT(i));
			p++
		:: else -> break
		od;
		p = 0;
		if
		:: busy -> i++
		:: else -> break
		fi
	:: else -> break
	od;
	busy = 0;
	i < ENTRIES;
	entry[i].state = PENDING;
	entry[i].taker = me;
	entry[i].session = me;
	taking[me] = taking[me] | BIT(i);
	level_taking = (level == 1 -> level_taking | BIT(i) : level_taking);
	i = 0
}

/*
 * acquire.c: with the lock tag, end what a dead session has left.  Leads to free or to refused.
 */
inline wait_until_free()
{
	do
	:: atomic {
			tfstate_find_session_lock();
			if
			:: seen[me] == NONE && !SEES_DURABLE && deleter == NOBODY -> goto free
			:: seen[me] == NONE && (SEES_DURABLE || deleter != NOBODY) -> goto refused
			:: seen[me] != NONE && had_tag && entry[seen[me]].session == me -> goto refused
			:: seen[me] != NONE && !(had_tag && entry[seen[me]].session == me)
			fi
		}
		try_to_end();
		if
		:: atomic { done ->
			/* a living session has the lock tag */
			assert(!ALIVE(seen[me]) || leaving[entry[seen[me]].session]);
			done = 0; seen[me] = NONE }
		:: atomic { !done && !busy -> skip }
		:: atomic { busy -> busy = 0; goto refused }
		:: atomic { busy -> busy = 0 };
			/* tfstate_wait_tag_as_first(), and give it back */
			if
			:: atomic { MAY_END(seen[me]) -> skip }
			:: atomic { goto refused }
			:: atomic { goto abort }
			fi
		fi
	od
}

inline tfstate_acquire()
{
	if
	:: atomic { tag_owner == NOBODY || HAS_LOCK_TAG ->
			had_tag = HAS_LOCK_TAG;
			tag_owner = me;
			had_level = tag_level;
			tag_level = (tag_level == 0 -> 1 + level : tag_level) }
	:: atomic { tag_owner != NOBODY && !HAS_LOCK_TAG -> goto refused_at_once }
	fi;
	wait_until_free();
refused:
	atomic {
		tag_level = had_level;
		tag_owner = (tag_level == 0 && !tag_session -> NOBODY : me)
	}
refused_at_once:
	atomic { forget_call() }
	goto idle;
free:
	atomic {
		if
		:: mode == 1 -> durable = me; inserter = me; level_durable = level
		:: mode == 0 ->
			tfstate_insert_session_lock();
			promote++;
			level_promote = level_promote + level
		fi;
		forget_call()
	}
	goto idle
}

/*
 * release.c
 */

inline tfstate_release()
{
	do
	:: atomic {
			tfstate_find_session_lock();
			if
			:: seen[me] == NONE || !ALIVE(seen[me]) -> break
			:: else
			fi;
			own = (entry[seen[me]].session == me);
			if
			:: !own && !force -> break
			:: else
			fi
		}
		end_and_wait();
		if
		:: atomic { done && own ->
			release++;
			level_release = level_release + level;
			break }
		:: atomic { done && !own -> terminated[entry[seen[me]].session] = ALIVE(seen[me]) };
			if
			:: atomic { !ALIVE(seen[me]) -> break }
			:: atomic { ALIVE(seen[me]) -> goto abort }
			fi
		:: atomic { !done -> skip }
		fi
	od;
	atomic { forget_call() }
}

/*
 * The guard (writer.c): whoever it is that writes, it writes under the lock that it finds.
 */
inline write_state()
{
	do
	:: atomic {
			tfstate_find_session_lock();
			if
			:: seen[me] == NONE || !ALIVE(seen[me]) -> break
			:: else
			fi
		}
#ifndef BUG_PIN_NO_TAG
		if
		:: atomic { entry[seen[me]].end_tag == NOBODY || entry[seen[me]].end_tag == me ->
			level_shares = (level == 1 && !(entry[seen[me]].end_shares & BIT(me)) ->
							level_shares | BIT(seen[me]) : level_shares);
			entry[seen[me]].end_shares = entry[seen[me]].end_shares | BIT(me) }
		:: atomic { entry[seen[me]].end_tag != NOBODY && entry[seen[me]].end_tag != me -> goto abort }
		fi;
#endif
		atomic {
#ifndef BUG_PIN_NO_LOOK
			find_again();
#endif
			if
			:: seen[me] != NONE ->
				assert(SEEN_BY_ME(seen[me]));
				level_written = (level == 1 && !(written[me] & BIT(seen[me])) ->
								 level_written | BIT(seen[me]) : level_written);
				written[me] = written[me] | BIT(seen[me]);
				break
			:: else
			fi
		}
	od;
	atomic { forget_call() }
}

inline forget_call()
{
	seen[me] = NONE; had_tag = 0; had_level = 0; done = 0; busy = 0; own = 0; force = 0; mode = 0
}

/*
 * commit.c
 */

/*
 * A lock is in force from now on: no other may be but the one in except and those in mine, and
 * no open transaction of another session may have written under another.
 */
inline check_exclusion(except, mine)
{
	i = 0;
	do
	:: i < ENTRIES ->
		assert(i == except || entry[i].state != LIVE || (mine & BIT(i)));
		p = 1;
		do
		:: p < PROCS -> assert(p == me || i == except || !(written[p] & BIT(i))); p++
		:: else -> break
		od;
		p = 0;
		i++
	:: else -> break
	od;
	i = 0
}

/* The rows of the transaction become visible. */
inline make_visible()
{
	if
	:: inserter == me -> inserter = NOBODY; check_exclusion(NONE, ending[me])
	:: else
	fi;
	if
	:: deleter == me -> deleter = NOBODY; durable = NOBODY
	:: else
	fi
}

inline free_entries()
{
	i = 0;
	do
	:: i < ENTRIES && ENDED_HERE(i) ->
#ifndef BUG_FREED_AT_ONCE
		assert(entry[i].state == LIVE || TAKEN_HERE(i));
#endif
		p = 1;
		do
		:: p < PROCS -> assert(p == me || !(written[p] & BIT(i))); p++
		:: else -> break
		od;
		p = 0;
		forget_entry();
		i++
	:: i < ENTRIES && !ENDED_HERE(i) -> i++
	:: else -> break
	od;
	i = 0
}

/* Show the entries that were taken and not ended, one after the other. */
inline publish_entries()
{
#ifndef BUG_SHOWN_IN_BETWEEN
	atomic { taking[me] = taking[me] & ~ending[me] };
#endif
	do
	:: atomic {
			taking[me] != 0 ->
			do
			:: !(taking[me] & BIT(j)) -> j++
			:: else -> break
			od;
			assert(entry[j].state == PENDING && entry[j].taker == me);
			if
			:: ALIVE(j) -> assert(durable == NOBODY || inserter != NOBODY); check_exclusion(j, 0)
			:: else
			fi;
			entry[j].state = LIVE;
			entry[j].taker = NOBODY;
			taking[me] = taking[me] & ~BIT(j);
			j = 0
		}
	:: atomic { taking[me] == 0 -> break }
	od
}

/* Tags for the session are released if it has not discarded them. */
inline release_tags()
{
	atomic {
		if
		:: release > 0 ->
			assert(HAS_LOCK_TAG && tag_session >= release);
			tag_session = tag_session - release;
			tag_owner = (tag_session == 0 && tag_level == 0 -> NOBODY : me)
		:: else
		fi;
		release = 0; promote = 0; promoted = 0
	}
}

/* Undo what was taken since the savepoint, or in the transaction. */
inline undo(what)
{
	i = 0;
	do
	:: i < ENTRIES && (what & BIT(i)) ->
		assert(entry[i].state == PENDING && entry[i].taker == me);
#ifndef BUG_ROLLBACK_STAYS
		forget_entry();
#endif
		i++
	:: i < ENTRIES && !(what & BIT(i)) -> i++
	:: else -> break
	od;
	i = 0
}

/* The end tags and their shares are returned, those in two sets of entries. */
inline return_tags(tags, shares)
{
	i = 0;
	do
	:: i < ENTRIES ->
		entry[i].end_tag = (entry[i].end_tag == me && (tags & BIT(i)) -> NOBODY : entry[i].end_tag);
		entry[i].end_shares = (shares & BIT(i) -> entry[i].end_shares & ~BIT(me) : entry[i].end_shares);
		i++
	:: else -> break
	od;
	i = 0
}

/* The end of a transaction releases its tags, in any order. */
inline ResourceOwnerRelease()
{
	if
	:: atomic { return_tags(my_tags, 255) };
		atomic { release_lock_tag() }
	:: atomic { release_lock_tag() };
		atomic { return_tags(my_tags, 255) }
	fi
}

inline release_lock_tag()
{
	if
	:: HAS_LOCK_TAG -> tag_level = 0; tag_owner = (tag_session -> me : NOBODY)
	:: else
	fi
}

/* session.c: the tags of the session go, one after the other. */
inline release_session_tags()
{
	leaving[me] = 1;
	if
	:: atomic { release_lock_tag_of_session() };
		atomic { end_session_tag() }
	:: atomic { end_session_tag() };
		atomic { release_lock_tag_of_session() }
	fi;
	leaving[me] = 0
}

inline release_lock_tag_of_session()
{
	if
	:: HAS_LOCK_TAG -> tag_session = 0; tag_owner = (tag_level > 0 -> me : NOBODY)
	:: else
	fi
}

inline end_session_tag()
{
	i = 0;
	do
	:: i < ENTRIES -> entry[i].session = (entry[i].session == me -> 0 : entry[i].session); i++
	:: else -> break
	od;
	i = 0;
	/* items of a session whose tag is gone are skipped */
	release = 0; promote = 0; level_release = 0; level_promote = 0
}

#define IS_MINE(i)		(entry[i].session == me && entry[i].state == LIVE)
#define HAS_LIVE_ENTRY	(IS_MINE(0) || IS_MINE(1) || IS_MINE(2))

/*
 * A session: one transaction after another until it ends, and then another session in its
 * place.
 */
proctype Session(byte me)
{
	bit mode, force, had_tag, done, busy, own, level, level_durable;
	byte promote, promoted, release, level_promote, level_release;	/* how often */
	byte tag_level, had_level;	/* 0: not of the transaction; 1; 2: since the savepoint */
	byte my_tags, level_tags, level_shares, level_taking, level_ending, level_written;
	byte operations, i, j, p;

	seen[me] = NONE;
idle:
	atomic {
		assert(seen[me] == NONE && !done && !busy);
		assert(operations > 0 || HAS_LOCK_TAG == HAS_LIVE_ENTRY);
		assert(operations > 0 || my_tags == 0 && !taking[me] && !ending[me]);
		if
		:: operations < OPERATIONS && !terminated[me] ->
			operations++;
			if
			:: goto lock
			:: DURABLE_MODE -> mode = 1; goto lock
			:: DURABLE_MODE && durable == me && inserter == NOBODY && level == 0 -> deleter = me; goto idle
			:: goto unlock
			:: FORCES -> force = 1; goto unlock
			:: WRITES -> goto write
			:: DISCARDS && tag_session -> goto discard
			:: SAVEPOINTS && level == 0 -> level = 1; goto idle
			fi
		:: level == 1 && !terminated[me] -> goto rollback_to
		:: level == 1 && !terminated[me] -> goto release_savepoint
		:: operations > 0 && level == 0 && !terminated[me] -> goto commit
		:: operations > 0 -> goto abort
		:: operations == 0 && (ENDS || terminated[me]) -> goto end_session
		fi
	}
lock:
	tfstate_acquire();
unlock:
	tfstate_release();
	goto idle;
write:
	write_state();
	goto idle;
discard:
	release_session_tags();
	goto idle;

release_savepoint:
	atomic {
		level = 0; level_taking = 0; level_ending = 0; level_tags = 0; level_shares = 0;
		level_written = 0; level_promote = 0; level_release = 0; level_durable = 0;
		tag_level = (tag_level == 2 -> 1 : tag_level);
		goto idle
	}
rollback_to:
	atomic {
		if
		:: inserter == me && level_durable -> inserter = NOBODY; durable = NOBODY
		:: else
		fi;
#ifndef BUG_SAVEPOINT_STAYS
		undo(level_taking);
		taking[me] = taking[me] & ~level_taking;
#endif
#ifndef BUG_SAVEPOINT_ENDS
		ending[me] = ending[me] & ~level_ending;
#endif
		promote = promote - level_promote;
		release = release - level_release;
		written[me] = written[me] & ~level_written;
		level_promote = 0; level_release = 0; level_taking = 0; level_ending = 0; level_written = 0;
		level_durable = 0;
		return_tags(level_tags, level_shares);
		my_tags = my_tags & ~level_tags;
		level_tags = 0; level_shares = 0;
		if
		:: tag_level == 2 -> tag_level = 0; tag_owner = (tag_session -> me : NOBODY)
		:: else
		fi;
		level = 0;
		goto idle
	}

commit:
	atomic {
		if
		:: promote > 0 ->
			assert(HAS_LOCK_TAG);
			tag_session = tag_session + promote;
			promoted = promote;
			promote = 0
		:: else
		fi
	}
	if
	:: atomic { make_visible() }
	:: goto abort				/* a serialization failure, say */
	fi;
#ifdef BUG_TAGS_FIRST
	release_tags();
	ResourceOwnerRelease();
#endif
	atomic { written[me] = 0 };
#ifdef BUG_PUBLISHED_FIRST
	publish_entries();
	atomic { free_entries() };
#else
	atomic { free_entries() };
	publish_entries();
#endif
	atomic {
		taking[me] = 0;
		ending[me] = 0
	}
	release_tags();
	goto end;
abort:
	atomic {
		if
		:: inserter == me -> inserter = NOBODY; durable = NOBODY
		:: else
		fi;
		deleter = (deleter == me -> NOBODY : deleter);
		undo(taking[me]);
		taking[me] = 0; ending[me] = 0; written[me] = 0;
		level = 0; level_taking = 0; level_ending = 0; level_written = 0; level_durable = 0;
		level_promote = 0; level_release = 0;
		if
		:: promoted > 0 -> tag_session = tag_session - promoted
		:: else
		fi;
		promote = 0; promoted = 0; release = 0;
		forget_call()
	}
end:
	ResourceOwnerRelease();
	atomic { my_tags = 0; level_tags = 0; level_shares = 0; operations = 0; goto idle };

end_session:
	release_session_tags();
	atomic { terminated[me] = 0; goto idle }
}

#ifdef BUG_PENDING_REMOVED
/* Somebody inserts the entry of another lockid into the same list. */
proctype Other()
{
	byte i, p;

end:
	do
	:: atomic {
			entry[i].state == PENDING ->
			p = 1;
			do
			:: p < PROCS -> assert(!(taking[p] & ~ending[p] & BIT(i))); p++
			:: else -> break
			od;
			p = 0;
			forget_entry()
		}
	od
}
#endif

init
{
	byte s = 1;

	atomic {
		do
		:: s <= SESSIONS -> run Session(s); s++
		:: else -> break
		od
#ifdef BUG_PENDING_REMOVED
		; run Other()
#endif
	}
}
