/* SPDX-License-Identifier: MIT */
#include "executor/connect.h"
