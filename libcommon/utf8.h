/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_UTF8_H
#define WFE_LIBCOMMON_UTF8_H

/*
 * Well-formed UTF-8 as of Unicode 15, table 3-7: no overlong form, no surrogate, nothing past
 * U+10FFFF.
 */

#include <stddef.h>

/* How many bytes at the start of text are whole, well-formed characters. */
size_t wfe_utf8_span(const char *text, size_t length);

/*
 * Length of the ill-formed piece that text (at least one byte) starts with: the longest start
 * of a character that could have become well-formed, else one byte. It is what becomes one
 * U+FFFD (Unicode 15, section 3.9, "maximal subpart"). text must not start with a whole character.
 */
size_t wfe_utf8_ill_formed(const char *text, size_t length);

#endif
