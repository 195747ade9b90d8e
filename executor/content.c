/* SPDX-License-Identifier: MIT */
#include "executor/content.h"
